"""Videos against a folder of real ones: the numbers are those of `python -m metrics`, and what cannot be compared is
refused before any work.
"""

import numpy as np
import pytest

from bench.harness.suite_spec import override, plan
from bench.results.records import LATER, Cell
from bench.ucf101.standins.weights import make_metric_weights
from bench.videos.columns import REAL_MEASURES
from bench.videos.length_suite import LENGTHS
from bench.videos.quality import QualityResults
from bench.videos.real_videos import Comparison, compare, embed_real
from metrics.evaluation.dataset import ReadOptions, ResolvedProtocol
from metrics.evaluation.evaluator import Evaluator
from metrics.networks.pocket import load_shipped
from vidrd.pocket.world import draw_scene, render

MEASURES = ("fvd", "kvd", "is", "jitter", "seconds_per_frame")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    path = tmp_path_factory.mktemp("real") / "real.npy"
    np.save(path, videos(range(12)))
    return path


def videos(seeds, frames=16):
    return render([draw_scene(seed) for seed in seeds], frames)


def planned(*assignments):
    few = {"frames": "16", "method": "independent", "precision": "fp32", "videos": "3", "device": "cpu"}
    few |= dict(word.split("=") for word in assignments)
    return plan(override(LENGTHS, [f"{name}={value}" for name, value in few.items()]), {})


def test_the_numbers_are_those_of_the_metrics(real, tmp_path):
    comparison = Comparison(real, None, "pocket", 16)
    reference = embed_real(comparison, tmp_path, MEASURES)
    assert set(reference.numbers) == {"is"}
    assert reference.absent["seconds_per_frame"] == "real video is not generated"
    quality, made = QualityResults(), videos(range(100, 106))
    facts = compare(quality, made, comparison, tmp_path, tmp_path)
    np.save(tmp_path / "made.npy", made)
    for metric, network in (("fvd", "i3d"), ("is", "c3d")):
        protocol = ResolvedProtocol.of(metric, "pocket", frames=16)
        evaluator = Evaluator(protocol, load_shipped(network), ReadOptions(allow_small=True))
        fake = evaluator.features(tmp_path / "made.npy", "fake")
        if metric == "is":
            assert quality.numbers["is"].value == evaluator.inception_score(fake).scores["is"].value
            continue
        sides = evaluator.features(real, "real"), fake
        assert quality.numbers["fvd"].value == pytest.approx(evaluator.fvd(*sides).scores["fvd"].value, rel=1e-9)
        assert quality.numbers["kvd"].value == pytest.approx(evaluator.kvd(*sides).scores["kvd"].value, rel=1e-9)
    assert {name.partition(":")[0] for name in quality.samples} == set(REAL_MEASURES)  # for paired differences
    assert "too few clips" in facts["comparison"]
    same = QualityResults()
    compare(same, np.load(real), comparison, tmp_path, tmp_path)
    assert abs(same.numbers["fvd"].value) < 1e-3 < quality.numbers["fvd"].value
    assert not (tmp_path / "generated.npy").exists()


def test_real_videos_are_a_reference_cell_that_knows_their_content(real, tmp_path):
    reference, cell = planned(f"real={real}", "protocol=pocket")
    assert (reference.reference, reference.cell.values["method"], reference.cell.values["frames"]) == (True, "real", 16)
    assert LENGTHS.reference(cell.cell.values) == reference.cell.values
    assert cell.skip is None
    copy = tmp_path / "real.npy"
    np.save(copy, videos(range(1, 13)))
    assert planned(f"real={copy}", "protocol=pocket")[1].cell.values["inputs"] != cell.cell.values["inputs"]
    several = planned(f"real={real}", "protocol=pocket", "frames=16,24", "method=independent,direct")
    assert [item.cell.values["frames"] for item in several if item.reference] == [16, 24]


def test_what_cannot_be_compared_is_refused_before_any_work(real, tmp_path):
    (tmp_path / "empty").mkdir()
    for assignments, message in (
        ((f"real={tmp_path / 'none'}",), "real videos are a folder, or a file of arrays: there is no"),
        ((f"real={tmp_path / 'empty'}", "protocol=pocket"), "no videos"),
        ((f"real={real}",), "fvd:clean needs the network it was published with: give --weights FOLDER"),
        ((f"real={real}", f"weights={tmp_path / 'none'}"), "weights are a file or a folder: there is no"),
        ((f"real={real}", f"weights={tmp_path / 'empty'}"), "the folder has none of"),
        ((f"real={real}", f"weights={tmp_path / 'empty'}", "protocol=dino"), "the folder has no dino_vitbase16"),
        ((f"real={real}", "protocol=clear"), "there is no protocol 'clear' of FVD: did you mean 'clean'"),
        (("weights=somewhere",), "weights compare videos with real ones"),
    ):
        with pytest.raises(ValueError, match=message):
            planned(*assignments)
    assert planned(f"real={real}", "protocol=pocket", "frames=7")[1].skip.startswith(
        "the protocol pocket takes clips of 8 frames: got 7"
    )


def test_a_published_protocol_says_how_long_its_clips_are(real, tmp_path):
    make_metric_weights(tmp_path, only=("i3d_torchscript.pt",), thin=8)
    reference, cell = planned(f"real={real}", f"weights={tmp_path}", "frames=12")
    assert cell.skip == "the protocol clean takes clips of 16 frames: got 12, ask for longer"
    assert reference.cell.values["frames"] == 16  # one for all lengths
    with pytest.raises(ValueError, match="clean is no protocol of the Inception Score: those are tgan, tgan2, sty"):
        Comparison(real, tmp_path, "clean", None).evaluator("is")


def test_cells_without_real_videos_keep_their_ids():
    (item,) = planned()
    values = dict(item.cell.values)
    earlier = {name: value for name, value in values.items() if name not in LATER["lengths"]}
    assert Cell("lengths", earlier).id == item.cell.id
    assert Cell("lengths", {**values, "real": "x"}).id != item.cell.id
    assert Cell("pocket", earlier).id != Cell("pocket", values).id  # of this workload nothing is left out
