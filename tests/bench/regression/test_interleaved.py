import hashlib
import json
import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_tree import plant

from bench.harness.suite_spec import override, plan
from bench.regression import interleaved, revision_server
from bench.regression.counts import counted, uncounted
from bench.regression.interleaved import (
    RevisionError,
    RevisionProcess,
    Settings,
    measure_interleaved,
)
from bench.regression.speed_test import SpeedTest
from bench.regression.worktrees import Side
from bench.results.verdicts import Pair, overall
from bench.studies.gpu_session.fake_nvml import FakeNvml
from bench.videos.length_suite import LENGTHS, PROMPTS

VALUES = {
    "method": "toy", "precision": "fp32", "device": "cpu", "videos": 4, "batch": 2, "steps": 30, "window": 3,
}  # fmt: skip
QUICK = Settings(processes=1, pairs=6, margin=0.25)


def side(name, tree):
    return Side(name, name * 10, tree, sys.executable)


def sides(tmp_path, **faults):
    return side("base", plant(tmp_path / "base")), side("head", plant(tmp_path / "head", **faults))


def go(tmp_path, settings=QUICK, **faults):
    findings, seen = measure_interleaved(
        [("toy", VALUES)], *sides(tmp_path, **faults), settings, tmp_path, lambda line: None
    )
    return {finding.measure: finding for finding in findings}, seen


def test_what_is_equal_passes_and_planted_faults_are_found_and_named(tmp_path, monkeypatch):
    """Two cells, of which only one has the faults; the base as before the folders moved."""
    monkeypatch.chdir(tmp_path)
    judged = []
    monkeypatch.setattr(
        "bench.videos.paired_quality.compare_videos", lambda cell, *videos, window, margins: judged.append(videos) or []
    )
    base = side("base", plant(tmp_path / "base", old=True))
    head = side("head", plant(tmp_path / "head", leak=True, bias=0.1, extra=1, spin=1.5))
    cells = [("sound", VALUES | {"method": "sound"}), ("toy", VALUES)]
    findings, seen = measure_interleaved(cells, base, head, QUICK, Path(), lambda line: None)
    sound, toy = ({each.measure: each for each in findings if each.cell == cell} for cell in ("sound", "toy"))

    assert sound["speed"].verdict != "FAIL"
    exact = {name: finding.verdict for name, finding in sound.items() if name != "speed"}
    names = ("recipe", "flops", "operators", "graph_breaks", "peak_bytes", "held_bytes", "output")
    assert exact == dict.fromkeys(names, "PASS")
    assert sound["flops"].head == 30 * 2 * (2 * 4 * 64) * 64 * 64
    assert sound["output"].reason == "equal bits"
    assert [pair[2] for pair in seen["pairs"]["sound"]] == [0] * 6
    assert seen["software"]["base"]["tree"].endswith("base")
    assert seen["software"]["head"]["tree"].endswith("head")
    assert seen["set_up"]["sound"]["head"]["cold_seconds"] > 0

    assert [toy[name].verdict for name in ("held_bytes", "flops", "operators", "output")] == ["FAIL"] * 4
    assert toy["held_bytes"].head == 4 << 18
    assert judged[0][0].shape == judged[0][1].shape == (4, 4, 64, 64, 3)
    assert not np.array_equal(*judged[0])
    assert toy["speed"].verdict in ("FAIL", "INCONCLUSIVE")  # the machine of the tests may be a very noisy one
    assert toy["speed"].change > 0.4
    assert seen["looks"]["toy"] == [[1, 1.0]]


class Clock:
    """Time that passes only when a pair of processes is measured."""

    def __init__(self, monkeypatch, seconds, ratios):
        self.now, self.measured = 0.0, []
        monkeypatch.setattr(interleaved.time, "monotonic", lambda: self.now)

        def pair(cells, base, head, settings, folder, say, group, lot):
            for cell in cells:
                assert cell.end == (math.inf if settings.max_minutes is None else settings.max_minutes * 60)
                self.now += seconds
                self.measured.append((group, cell.label))
                noise = [0.01, -0.01, 0.004][group % 3]
                cell.speed.pairs += [Pair(1.0, ratios[cell.label] * math.exp(noise), group)] * settings.pairs
            return {"head": {}}

        monkeypatch.setattr(interleaved, "_pair_of_processes", pair)

    def gate(self, tmp_path, settings):
        cells = [(label, VALUES) for label in ("slower", "equal", "close")]
        nobody = side("base", tmp_path), side("head", tmp_path)
        findings, seen = measure_interleaved(cells, *nobody, settings, tmp_path, lambda line: None)
        return {finding.cell: finding.verdict for finding in findings}, seen


RATIOS = {"slower": 1.3, "equal": 1.0, "close": 1.03}


def test_a_cell_that_is_decided_leaves_its_time_to_the_others(tmp_path, monkeypatch):
    clock = Clock(monkeypatch, 20, RATIOS)
    verdicts, seen = clock.gate(tmp_path, Settings(processes=60, max_minutes=12))
    assert verdicts == {"slower": "FAIL", "equal": "PASS", "close": "INCONCLUSIVE"}
    last = {label: max(group for group, each in clock.measured if each == label) for label in RATIOS}
    assert last["slower"] < 6
    assert last["equal"] < 15
    assert clock.now <= 12 * 60
    assert last["close"] > 12 * 60 / 60  # more than if all three had been measured to the end
    assert seen["looks"]["close"][-1][1] == 1.0  # all of the probability of an error is spent


def test_time_that_is_short_is_spent_on_one_look(tmp_path, monkeypatch):
    clock = Clock(monkeypatch, 60, {**RATIOS, "equal": 0.9})
    verdicts, seen = clock.gate(tmp_path, Settings(processes=60, max_minutes=9))
    assert seen["looks"] == {label: [[3, 1.0]] for label in RATIOS}
    assert verdicts == {"slower": "FAIL", "equal": "PASS", "close": "INCONCLUSIVE"}


def test_without_a_limit_of_time_the_processes_are_the_limit(tmp_path, monkeypatch):
    clock = Clock(monkeypatch, 1000, RATIOS)
    _, seen = clock.gate(tmp_path, Settings(processes=8, max_minutes=None))
    assert seen["looks"]["close"] == [[n, n / 8] for n in range(3, 9)]


@pytest.mark.slow
def test_another_recipe_is_invalid_and_not_timed(tmp_path):
    found, seen = go(tmp_path, steps=-5)
    assert found["recipe"].verdict == "INVALID"
    assert "calls was 30, is 25" in found["recipe"].reason
    assert "speed" not in found
    assert seen["pairs"]["toy"] == []


@pytest.mark.slow
def test_an_output_that_is_not_finite_fails(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.videos.paired_quality.compare_videos", lambda *arguments, window, margins: [])
    assert go(tmp_path, nan=True)[0]["output"].verdict == "FAIL"


@pytest.mark.slow
def test_a_base_that_does_not_know_the_cell_needs_calibration(tmp_path):
    base, head = side("base", plant(tmp_path / "base", crash=True)), side("head", plant(tmp_path / "head"))
    findings, _ = measure_interleaved([("toy", VALUES)], base, head, QUICK, tmp_path, lambda line: None)
    assert [(finding.measure, finding.verdict) for finding in findings] == [("run", "CALIBRATION_NEEDED")]
    swapped = [head._replace(name="base"), base._replace(name="head")]
    findings, _ = measure_interleaved([("toy", VALUES)], *swapped, QUICK, tmp_path, lambda line: None)
    assert overall(findings) == "INVALID"
    assert "the head failed: KeyError: 'toy'" in findings[0].reason


@pytest.mark.slow
def test_a_process_that_hangs_or_dies_is_reported(tmp_path):
    tree = plant(tmp_path / "tree", hang=True)
    with RevisionProcess(side("head", tree), tmp_path / "log", Settings(timeout=20)) as server:
        server.ask("hello", threads=1)
        server._timeout = 0.5
        began = time.monotonic()
        with pytest.raises(RevisionError, match=r"the head gave no answer within 0\.5 s"):
            server.ask("open", values=VALUES)
        assert time.monotonic() - began < 10
        with pytest.raises(RevisionError, match="the process of the head ended with -9"):
            server.ask("run")
    (tree / "vidrd" / "__init__.py").write_text("import os\nprint('dying', flush=True)\nos._exit(7)\n")
    with (
        RevisionProcess(side("head", tree), tmp_path / "log", Settings()) as server,
        pytest.raises(RevisionError, match=r"ended with 7; last line of log: dying"),
    ):
        server.ask("hello", threads=1)


class Scripted(RevisionProcess):
    """A side that gives these answers, or raises them."""

    def __init__(self, name, answers):
        self.side, self.answers = side(name, Path()), answers

    def tell(self, do, **request):
        pass

    def answer(self):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("head", "verdict"),
    [({}, "CALIBRATION_NEEDED"), (RevisionError("the head failed: ValueError: no"), "INVALID")],
)
def test_a_base_without_the_method_is_no_excuse_for_a_head_that_fails(head, verdict):
    cell = interleaved.MeasuredCell("toy", VALUES, SpeedTest("toy", 0.03))
    servers = [Scripted("base", [RevisionError("the base failed: KeyError: 'toy'")]), Scripted("head", [head])]
    with pytest.raises(RevisionError) as raised:
        interleaved.ask_both(servers, "open")
    interleaved._break(cell, str(raised.value))
    assert [finding.verdict for finding in cell.findings] == [verdict]


def test_an_answer_is_never_left_for_the_next_question():
    base, head = Scripted("base", [RevisionError("no"), {"n": 2}]), Scripted("head", [{"n": 1}, {"n": 2}])
    with pytest.raises(RevisionError, match="no"):
        interleaved.ask_both([base, head], "facts")
    assert interleaved.ask_both([base, head], "open") == {"base": {"n": 2}, "head": {"n": 2}}


def test_a_failure_is_quoted_in_part(tmp_path):
    """Reasons go into the comment of a pull request, which takes 64 kB."""
    answer = tmp_path / "answer"
    answer.write_text(json.dumps({"failed": "wrong " * 20_000}) + "\n")
    server = object.__new__(RevisionProcess)
    server.side, server._timeout = side("head", tmp_path), 1
    with answer.open() as file:
        server._process = SimpleNamespace(stdout=file)
        with pytest.raises(RevisionError, match=r"^the head failed: wrong wrong ") as raised:
            server.answer()
    assert len(str(raised.value)) < 1100


def test_blocks_alternate_and_begin_by_lot():
    order = []

    class Fake(RevisionProcess):
        pid = 7

        def __init__(self, name):
            self.side = Side(name, "", Path(), Path())

        def ask(self, do, pids):
            assert pids == [7, 7]
            order.append(self.side.name[0])
            return {"seconds": 1.0, "waited": 0.0, "spoiled": "", "looks": []}

    pairs = interleaved.timed_pairs([Fake("base"), Fake("head")], 40, 3, interleaved.random.Random(0))
    assert len(pairs) == 40
    assert {pair.group for pair in pairs} == {3}
    blocks = ["".join(order[i : i + 4]) for i in range(0, 80, 4)]
    assert set(blocks) == {"bhhb", "hbbh"}


def test_samples_at_other_clocks_are_spoiled():
    at = [[0.0, 1980.0], [1.0, 1980.0]]
    slow = [[0.0, 1700.0], [1.0, 1700.0]]
    assert interleaved._clocks_apart(at, at) == ""
    assert interleaved._clocks_apart(at, slow) == "SM clocks 1980 and 1700 MHz"
    assert interleaved._clocks_apart([], at) == ""


def test_a_count_that_only_one_side_has_is_invalid():
    findings = counted("", {"flops": 3, "graph_breaks": 0}, {"flops": 3, "graph_breaks": "TypeError: no"})
    assert [(finding.measure, finding.verdict) for finding in findings] == [
        ("flops", "PASS"),
        ("graph_breaks", "INVALID"),
    ]
    assert "TypeError: no" in findings[1].reason


def test_a_count_that_neither_side_has_is_not_judged_and_reported_as_missing():
    neither = {"flops": 3, "graph_breaks": "no compiler"}
    assert [finding.measure for finding in counted("", neither, neither)] == ["flops"]
    assert uncounted(neither, neither) == {"graph_breaks": "no compiler"}
    assert uncounted(neither, {"flops": 3, "graph_breaks": 0}) == {}


def test_what_could_not_be_counted_is_listed_with_the_verdict(tmp_path, monkeypatch):
    lines = []
    servers, cell = (
        [ScriptedFacts("base", tmp_path), ScriptedFacts("head", tmp_path)],
        interleaved.MeasuredCell("toy", VALUES, SpeedTest("toy", 0.03)),
    )
    interleaved._compare_facts(cell, servers, QUICK, tmp_path, lines.append)
    assert cell.uncounted == {"graph_breaks": "TypeError: no"}
    assert lines == ["toy: graph_breaks could not be counted on either side, and is not judged: TypeError: no"]
    assert {finding.measure for finding in cell.findings} == {"recipe", "flops", "output"}


class ScriptedFacts(RevisionProcess):
    """A side whose facts are made up."""

    def __init__(self, name, folder):
        self.side = side(name, folder)

    def tell(self, do, *, folder):
        np.save(Path(folder) / "latents.npy", np.ones(3, np.float32))

    def answer(self):
        return {"recipe": {"calls": 1}, "counts": {"flops": 3, "graph_breaks": "TypeError: no"}, "sha256": "ab"}


class ScriptedVideos(ScriptedFacts):
    """A side whose outputs are made up, and which notes when it is asked for all of its videos."""

    def __init__(self, name, folder, shade, asked):
        super().__init__(name, folder)
        self.videos, self.asked = np.full((4, 2, 8, 8, 3), shade, np.uint8), asked

    def tell(self, do, *, folder):
        if do == "videos":
            self.asked.append(self.side.name)
            np.save(Path(folder) / "all.npy", self.videos)
        else:
            np.save(Path(folder) / "latents.npy", self.videos[0].astype(np.float32))

    def answer(self, within=None):
        first = hashlib.sha256(self.videos[:2].tobytes()).hexdigest()
        return {"recipe": {"calls": 1}, "counts": {"flops": 3}, "sha256": first}


def test_the_videos_of_one_base_are_made_once_and_those_of_another_are_not_taken(tmp_path, monkeypatch):
    judged = []
    monkeypatch.setattr(
        "bench.videos.paired_quality.compare_videos", lambda cell, *sides, window, margins: judged.append(sides) or []
    )

    def gate(base, head):
        asked = []
        cell = interleaved.MeasuredCell("toy", VALUES, SpeedTest("toy", 0.03))
        servers = [ScriptedVideos("base", tmp_path, base, asked), ScriptedVideos("head", tmp_path, head, asked)]
        interleaved._compare_facts(cell, servers, replace(QUICK, may_change=True), tmp_path, lambda line: None)
        return asked, [int(videos[0, 0, 0, 0, 0]) for videos in judged[-1]]

    assert gate(1, 2) == (["base", "head"], [1, 2])
    assert gate(1, 3) == (["head"], [1, 3])
    assert gate(5, 3) == (["base", "head"], [5, 3])  # the base makes other videos than those that were kept


@pytest.mark.parametrize(
    ("latents", "levels", "verdict"),
    [(0.0, 0, "PASS"), (1e-6, 0, "PASS"), (1e-6, 1, "PASS"), (1e-6, 40, "FAIL"), (0.0, 40, "FAIL"), (1e-3, 0, "FAIL")],
)
def test_a_head_that_decodes_otherwise_fails_also_where_its_latents_are_rounded(tmp_path, latents, levels, verdict):
    """One frame of eight differs, in one pixel by one level or in all by some."""

    class Decoded(ScriptedFacts):
        def tell(self, do, *, folder):
            changed = self.side.name == "head"
            np.save(Path(folder) / "latents.npy", np.ones(3, np.float32) + changed * np.float32(latents))
            videos = np.full((1, 8, 32, 32, 3), 100, np.uint8)
            videos[:, 3, : 32 if levels > 1 else 1, : 32 if levels > 1 else 1] += np.uint8(changed * levels)
            np.save(Path(folder) / "videos.npy", videos)

        def answer(self):
            return super().answer() | {"sha256": self.side.name}

    cell = interleaved.MeasuredCell("cell", {"precision": "fp32"}, SpeedTest("cell", 0.03))
    interleaved._compare_facts(cell, [Decoded("base", tmp_path), Decoded("head", tmp_path)], QUICK, tmp_path, print)
    assert next(each.verdict for each in cell.findings if each.measure == "output") == verdict


def test_videos_that_cannot_be_judged_are_a_finding_and_not_the_end_of_the_gate(tmp_path, monkeypatch):
    def refuse(cell, *sides, window, margins):
        raise ValueError("a difference of distances needs the videos of at least 3 captions: got 1")

    monkeypatch.setattr("bench.videos.paired_quality.compare_videos", refuse)
    cell = interleaved.MeasuredCell("toy", VALUES, SpeedTest("toy", 0.03))
    servers = [ScriptedVideos("base", tmp_path, 1, []), ScriptedVideos("head", tmp_path, 2, [])]
    interleaved._compare_facts(cell, servers, replace(QUICK, may_change=True), tmp_path, lambda line: None)
    assert [(each.measure, each.verdict) for each in cell.findings][-1] == ("quality", "INVALID")
    assert "at least 3 captions: got 1" in cell.findings[-1].reason


class Quick(revision_server.PreparedCell):
    """Work that takes no time."""

    def __init__(self):
        pass

    def seconds(self):
        return 1.0, 0.5


def test_a_wait_between_two_readings_is_not_taken_off_the_work(monkeypatch):
    """On a machine so busy that every reading of a clock waits a second for its core."""
    now = {"clock": 0.0, "waited": 0.0}

    def read(name):
        now["clock"] += 1
        now["waited"] += 1
        return now[name]

    cell = Quick()
    cell.device, cell.without_core = "cpu", lambda: read("waited")
    cell.make = lambda: now.update(clock=now["clock"] + 5)
    monkeypatch.setattr(revision_server, "time", SimpleNamespace(perf_counter=lambda: read("clock")))
    assert revision_server.PreparedCell.seconds(cell)[0] >= 5


def test_facts_are_of_the_last_batch_too_in_which_a_wrong_seed_shows(tmp_path, monkeypatch):
    class Batches(Quick):
        prompts, device, make = [""] * 6, "cpu", staticmethod(lambda: torch.zeros(1))

        def witnessed(self, first=0):
            return np.full((2, 3), float(first)), np.full((2, 4), first, np.uint8), {"calls": first}

    one = revision_server.RevisionServer()
    one.cell = Batches()
    monkeypatch.setattr(one, "_graph_breaks", lambda: 0)
    facts = one.facts(str(tmp_path))
    assert np.load(tmp_path / "latents.npy")[:, 0].tolist() == [0, 0, 4, 4]
    assert np.load(tmp_path / "videos.npy")[:, 0].tolist() == [0, 0, 4, 4]
    assert facts["recipe"] == {"calls": 0}
    assert facts["sha256"] == hashlib.sha256(bytes(8)).hexdigest()  # of the first batch, by which kept videos are known


@pytest.mark.slow
def test_the_noise_of_a_wrong_seed_in_a_later_batch_fails(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.videos.paired_quality.compare_videos", lambda *arguments, window, margins: [])
    assert go(tmp_path, seed=0.1)[0]["output"].verdict == "FAIL"


@pytest.mark.parametrize(
    ("others", "spoiled"), [([], ""), ([99], "another process on the GPU: 99"), ([98, 99], "another process")]
)
def test_a_pair_during_which_another_process_used_the_card_does_not_count(others, spoiled):
    own = [1001, 1002]
    fake = FakeNvml(processes=[(pid, 1) for pid in (*own, *others)])
    one = revision_server.RevisionServer()
    one.cell = Quick()
    with revision_server.tool("nvml").card(None, fake) as one.card:
        found = one.run(own)
    assert found["seconds"] == 1.0
    assert found["spoiled"].startswith(spoiled)
    assert bool(found["spoiled"]) == bool(others)
    assert len(found["looks"]) == 2


def test_models_of_any_family_are_witnessed_with_all_their_networks():
    few = ("model=tiny:WanPipeline:2.2-A14B", "method=direct", "frames=9", "precision=fp32", "device=cpu", "steps=4")
    (item,) = plan(override(LENGTHS, few), {})
    cell = revision_server.PreparedCell(dict(item.cell.values))
    latents, videos, recipe = cell.witnessed()
    assert recipe["calls"] == 4
    assert recipe["timesteps"][-1][0] < 875 <= recipe["timesteps"][0][0]  # both experts
    assert recipe["inputs"] == ["2x16x3x4x6 torch.float32"]
    assert (latents.shape, list(videos.shape)) == ((1, 16, 3, 4, 6), recipe["videos"])
    assert cell.prompts == list(PROMPTS)
    again, _, other = cell.witnessed()
    assert other == recipe
    assert np.array_equal(latents, again)
    assert "decode" not in vars(cell.model)
    assert not any(network._forward_pre_hooks for network in cell.networks)


def test_another_output_of_any_model_is_left_to_the_eye(tmp_path, monkeypatch):
    class Other(ScriptedFacts):
        """The head makes other latents."""

        def tell(self, do, *, folder):
            np.save(Path(folder) / "latents.npy", np.full(3, 1 + (self.side.name == "head"), np.float32))

    cell = interleaved.MeasuredCell("cell", {"precision": "fp32"}, SpeedTest("cell", 0.03))
    settings = replace(QUICK, may_change=True)
    interleaved._compare_facts(cell, [Other("base", tmp_path), Other("head", tmp_path)], settings, tmp_path, print)
    (finding,) = [finding for finding in cell.findings if finding.measure == "quality"]
    assert finding.verdict == "INCONCLUSIVE"
    assert "nothing judges videos of any model" in finding.reason


def test_without_a_card_nothing_is_spoiled():
    one = revision_server.RevisionServer()
    one.cell = Quick()
    assert one.run([1, 2]) == {"seconds": 1.0, "waited": 0.5, "spoiled": "", "looks": []}


@pytest.mark.parametrize(
    ("wrong", "match"),
    [({"pairs": 5}, "an even number of pairs"), ({"processes": 1, "pairs": 4}, "a verdict needs 6 pairs")],
)
def test_settings_without_a_verdict_are_refused(wrong, match):
    with pytest.raises(ValueError, match=match):
        Settings(**wrong)
