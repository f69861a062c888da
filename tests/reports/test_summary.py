"""The answer: a planted difference comes first, an equal one never; one finding is one sentence."""

import json
import math
import re

import numpy as np
import pytest
from made_runs import (
    MEASURES,
    POCKET_AXES,
    cells_of,
    every_status,
    grid,
    manifest_of,
    many_cells,
    measure,
    measured,
    one_cell,
    pocket,
    write,
)

from bench.results.records import Attempt, Number, Record
from bench.results.statistics import Estimate, trimmed_mean
from reports.multiple_comparisons import Difference, videos_needed
from reports.phrases import PHRASES, clause, phrase_of
from reports.run_table import load, rows
from reports.summary import sentences

VIDEOS = 24
SAID = {
    "fvd": MEASURES["fvd"],
    "duplicates": measure("held", "", "real", "quality"),
    "mirror": measure("mirror", "", "real", "quality"),
    "seconds_per_frame": MEASURES["seconds_per_frame"],
    "process_peak": MEASURES["rss"],
}
AXES = POCKET_AXES | {"precision": ["fp32"]}


def said(folder):
    run = load(folder)
    return sentences(run, rows(run))


def noise(values, measure, spread=0.1):
    """One value a video, by chance alone, of a mean near 0 and exactly this spread."""
    seed = [values["frames"], values["overlap"], *map(ord, values["method"] + measure)]
    drawn = np.random.default_rng(seed).standard_normal(VIDEOS)
    return spread * (drawn - 0.5 * drawn.mean()) / drawn.std(ddof=1)


def equal(values):
    """Every row has the same truth."""
    found = {name: measured(noise(values, name)) for name in ("mirror", "fvd")}
    if values["method"] == "real":
        return found
    seconds = tuple(0.02 * (1 + 0.01 * each) for each in noise(values, "s", 1.0)[:3])
    return found | {
        "seconds_per_frame": (Number(0.02, "s", "lower", 3), ()),
        "total_seconds": (Number(0.02, "s", "lower", 3), seconds),
        "process_peak": (Number(700 * 2.0**20, "bytes", "lower"), ()),
    }


def mirrored(values, where=lambda values: True):
    """VidRD plays clips backwards where `where` says so, by 4 half intervals; all else is equal."""
    sentences_found = equal(values)
    if values["method"] == "vidrd" and where(values):
        sentences_found["mirror"] = measured(0.5 + noise(values, "mirror"))
    return sentences_found


def test_a_planted_difference_is_said_first_and_once_for_all_lengths(tmp_path):
    first, *others = said(pocket(tmp_path / "run", AXES, mirrored, SAID))
    assert re.fullmatch(
        r"VidRD plays more of each clip backwards in the next than (independent clips|direct sampling|real video): "
        r"mirror 0\.\d+ against -?0\.0\d+, 0\.\d+ ±0\.0\d+ apart, at every setting\.",
        first,
    )
    assert len(others) == 1
    assert "FVD" in others[0]
    assert "mirror (" not in others[0].partition("cannot tell the methods apart")[0]


def test_rows_are_named_by_what_they_differ_in_where_the_first_axis_has_one_value(tmp_path):
    def unreal(values):
        return {"mirror": measured((values["method"] != "real") + noise(values, "mirror"))}

    text = said(pocket(tmp_path / "run", {"equal": ("fe",), **AXES}, unreal, {"mirror": SAID["mirror"]}))
    assert re.match(
        "(VidRD|.* (clips|sampling)) plays? more of each clip backwards in the next than real video", text[0]
    )


def test_a_difference_at_one_length_names_it(tmp_path):
    text = said(pocket(tmp_path / "run", AXES, lambda v: mirrored(v, lambda v: v["frames"] == 24), SAID))
    first = text[0]
    assert first.startswith("VidRD plays more of each clip backwards in the next than")
    assert first.endswith("apart, at 24 frames with every overlap.")


def test_rows_of_one_truth_are_not_told_apart(tmp_path):
    (text,) = said(pocket(tmp_path / "run", AXES, equal, SAID))
    assert re.match(r"With 24 videos, FVD \(about [\d,]+ would be needed\), mirror \(", text)
    assert "cannot tell the methods apart and no headline tells the overlaps apart (" in text
    assert all(float(count.replace(",", "")) > VIDEOS for count in re.findall(r"\(about ([\d,]+) would", text))


def test_false_alarms_are_rare(tmp_path):
    """Of runs without any difference at most 1 in 20 a measure has a sentence, though each compares 27 pairs."""
    alarms, runs = 0, 40
    for i in range(runs):
        draw = np.random.default_rng(i)
        folder = tmp_path / str(i)

        def chance(values, draw=draw):
            return {"mirror": measured(draw.standard_normal(VIDEOS), better="real")}

        alarms += len(said(pocket(folder, AXES, chance, {"mirror": SAID["mirror"]}))) > 1
    assert alarms <= 6  # 2 in the mean; 7 or more come once in 300 such tests


def test_a_share_is_told_in_per_cent_and_never_is_never(tmp_path):
    def held(values):
        share = np.array([1.0, 0.0, 0.0] * 8) if values["method"] == "vidrd" else np.zeros(VIDEOS)
        return {"duplicates": measured(share, better="real")}

    text = said(pocket(tmp_path / "run", AXES, held, {"duplicates": SAID["duplicates"]}))
    assert re.fullmatch(
        r"VidRD holds a frame at 33 % \(±20\) of its seams; (independent clips never do|real video never does), "
        r"at every setting\.",
        text[0],
    )
    assert text[-1] == "With 24 videos, no headline tells the overlaps apart (held frames: equal)."


def test_costs_are_ratios_with_an_interval_or_by_one_reading(tmp_path):
    def cost(values):
        if values["method"] == "real":
            return {}
        slow, large = (2.0 if values["overlap"] == 6 else 1.0), (1.9 if values["method"] == "direct" else 1.0)
        return {
            "seconds_per_frame": (Number(0.02 * slow, "s", "lower", 3), ()),
            "total_seconds": (Number(1.0, "s"), (1.0 * slow, 1.01 * slow, 0.99 * slow)),
            "process_peak": (Number(large * 700 * 2.0**20, "bytes", "lower"), ()),
        }

    text = said(pocket(tmp_path / "run", AXES, cost, SAID))
    slow = r"Overlap 6 takes 2\.0 times as long per frame as overlap 2 \(1\.\d to 2\.\d\), at every length\."
    large = r"Direct sampling takes 1\.9 times the memory of \S.* \(1330 against 700 MiB, one reading each\)"
    assert any(re.fullmatch(slow, each) for each in text), text
    assert any(re.match(large, each) for each in text), text
    assert not any(each.startswith("A video of") for each in text)  # length changes nothing here


def test_a_length_is_compared_by_what_it_costs_alone(tmp_path):
    def growing(values):
        sentences_found = mirrored(values, lambda values: values["frames"] == 32)
        if "process_peak" in sentences_found:
            sentences_found["process_peak"] = (Number(values["frames"] * 50 * 2.0**20, "bytes", "lower"), ())
        return sentences_found

    text = said(pocket(tmp_path / "run", AXES, growing, SAID))
    along = [each for each in text if "a video of 16 frames" in each]
    assert along == [
        "A video of 32 frames takes 2.0 times the memory of a video of 16 frames (1600 against 800 MiB, one reading "
        "each), at every setting."
    ]


def test_what_became_of_the_cells_is_said_first_if_not_all_have_numbers(made_run, tmp_path):
    assert said(made_run)[0] == (
        "20 of 26 cells have their numbers; 1 skipped, 1 ran out of memory, 1 ran out of time, 1 failed, "
        "1 cannot be believed and 1 not run yet."
    )
    assert not any("cells have their numbers" in each for each in said(write(tmp_path / "run", grid())))


def test_the_axes_of_any_suite_are_spoken_of(tmp_path):
    text = said(write(tmp_path / "run", grid()))
    assert text[0].startswith("ours is nearer to real video than <i>evil</i>: FVD ")
    assert "fp32 takes 1.7 times as long per frame as bf16 (1.4 to 1.9), at every setting." in " ".join(text), text
    assert not any("Overlap 4 takes" in each for each in text)  # 1.2 times is what two processes may differ by
    untold = "cannot tell the methods apart and no headline tells the overlaps apart (FVD: equal)."
    assert text[-1] == f"With 32 videos, time per frame (equal) {untold}"


def toy(folder, axes, numbers, measures, **changes):
    """A run of any axes, without real video; a function of a cell's values gives its numbers."""
    cells = [each for each in cells_of({"frames": [16], **axes}) if not each[1]]
    manifest = manifest_of({"frames": [16], **axes}, cells, measures=measures, **changes)
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    lines = [Record(cell, Attempt("ok"), numbers(cell.values)).to_json() + "\n" for cell, _ in cells]
    (folder / "records.jsonl").write_text("".join(lines))
    return said(folder)


def test_many_rungs_are_set_against_the_first(tmp_path):
    """As the speed suite has them: one measure, eight rungs, the last four times as fast."""
    rungs = ["eager", *(f"rung-{i}" for i in range(1, 8))]

    def times(values):
        seconds = 1.0 / (1 + 0.5 * rungs.index(values["rung"]))
        return {"step_seconds": Number(seconds, "s", "lower", 9, 0.98 * seconds, 1.02 * seconds)}

    said_ = {"step_seconds": measure("s/step", "s", "lower", "cost")}
    text = toy(tmp_path / "run", {"rung": rungs}, times, said_)
    assert text[0] == "eager takes 4.5 times as long for a step as rung-7 (3.9 to 5.2)."
    assert len(text) == 8
    assert all(each.startswith("eager takes ") for each in text[:7])
    assert text[-1] == "Every headline tells some of the rungs apart."


def test_nothing_is_compared_across_axes_that_are_held_apart(tmp_path):
    """As the kernels have them: backends within a kernel."""
    axes = {"kernel": ["conv", "norm"], "backend": ["plain", "fast"]}

    def times(values):
        seconds = (1.0 if values["kernel"] == "conv" else 9.0) / (2.0 if values["backend"] == "fast" else 1.0)
        return {"call_seconds": Number(seconds, "s", "lower", 9, 0.98 * seconds, 1.02 * seconds)}

    said_ = {"call_seconds": measure("s/call", "s", "lower", "cost")}
    text = toy(tmp_path / "run", axes, times, said_, apart=["kernel"])
    assert text == [
        "plain takes 2.0 times as long for a call as fast (1.7 to 2.3), at every kernel.",
        "Every headline tells some of the backends apart.",
    ]


def test_true_and_false_are_read_as_values(tmp_path):
    axes = {"reverse": [True, False], "overlap": [2, 4]}

    def cycling(values):
        middle = 0.9 if values["reverse"] else 0.2
        return {"mirror": Number(middle, "", "real", 32, middle - 0.05, middle + 0.05)}

    text = toy(tmp_path / "run", axes, cycling, {"mirror": SAID["mirror"]})
    assert text[0] == (
        "Reverse = True plays more of each clip backwards in the next than reverse = False: "
        "mirror 0.900 against 0.200, 0.700 ±0.071 apart, with every overlap."
    )
    assert text[1] == "With 32 videos, no headline tells the overlaps apart (mirror: equal)."


def test_pairs_tell_what_two_intervals_cannot(tmp_path):
    """The same prompts and noise: the intervals of two rows overlap widely, that of their difference excludes 0."""

    def prompts(values):
        each = 10.0 * np.arange(VIDEOS) + (values["method"] == "vidrd") + 0.1 * (np.arange(VIDEOS) % 3)
        return {"mirror": measured(each)} if values["method"] != "real" else {}

    measures = {"mirror": SAID["mirror"]}
    assert "1.0 " not in said(pocket(tmp_path / "alone", AXES, prompts, measures, pairs=""))[0]
    assert len(said(pocket(tmp_path / "none", AXES, prompts, measures, pairs=""))) == 1
    assert said(pocket(tmp_path / "pairs", AXES, prompts, measures))[0].startswith("VidRD plays more")


def untold(mean, spread, n=VIDEOS):
    error = spread / math.sqrt(n)
    return Difference("mirror", "method", "a", "b", {}, mean, 0.0, Estimate(mean, error, n - 1, n), False, n)


@pytest.mark.parametrize("claims", [1, 10])
def test_the_number_of_videos_needed_is_what_a_simulation_needs(claims):
    """With so many videos half of the trials tell the difference, with 1.5 times more most, with 1.5 fewer few."""
    mean, spread = 0.25, 1.0
    needed = videos_needed(untold(mean, spread), claims)
    draw = np.random.default_rng(0)
    powers = []
    for count in (round(needed / 1.5), round(needed), round(1.5 * needed)):
        trials = mean + spread * draw.standard_normal((500, count))
        estimates = [trimmed_mean(trial.tolist(), trim=0.0) for trial in trials]
        powers.append(sum(each.low(0.025 / claims) > 0 for each in estimates) / 500)
    assert powers[0] < 0.4 < powers[1] < 0.6 < powers[2]


def test_what_no_number_tells_is_infinite():
    assert videos_needed(untold(0.0, 1.0), 1) == math.inf
    near = Difference("seconds_per_frame", "m", "a", "b", {}, 1.0, 1.0, Estimate(0.01, 0.04, 4, 3), True, 3)
    assert videos_needed(near, 1) == math.inf  # a process differs from the next by more


def test_emulated_times_are_never_compared(tmp_path):
    """bf16 by way of float32 is ten times slower, takes twice the memory and mirrors: only two of these are said."""
    axes = POCKET_AXES | {"frames": [16], "overlap": [4]}

    def costs(values):
        if values["method"] == "real":
            return {}
        low = values["precision"] == "bf16"
        seconds = 0.2 if low else 0.02
        return {
            "mirror": measured(noise(values, "mirror") + low),
            "seconds_per_frame": (Number(seconds, "s", "lower", 9, 0.98 * seconds, 1.02 * seconds), ()),
            "process_peak": (Number((2.0 if low else 1.0) * 2.0**30, "bytes", "lower"), ()),
        }

    told = said(pocket(tmp_path / "native", axes, costs, SAID))
    assert any(each.startswith("bf16 takes 10 times as long per frame") for each in told)
    marked = said(pocket(tmp_path / "emulated", axes, costs, SAID,
                         facts=lambda v: {"emulated": "bf16"} if v["precision"] == "bf16" else {}))  # fmt: skip
    assert any(each.startswith("bf16 takes 2.0 times the memory of fp32") for each in marked)
    assert not any("bf16" in each and "per frame" in each for each in marked)
    assert any(each.startswith("bf16 plays more") for each in marked)


def test_without_intervals_nothing_is_claimed(tmp_path):
    assert not any("action" in each for each in said(write(tmp_path / "run", grid())))


def test_headlines_of_the_plan_come_before_the_usual_ones(tmp_path):
    text = " ".join(said(write(tmp_path / "run", grid(), headlines=["is", "gpu", "no such"])))
    assert "IS (equal)" in text
    assert "FVD" not in text


def test_one_cell_and_no_records(tmp_path):
    nothing = "No two cells have numbers with intervals that can be compared."
    assert said(one_cell(tmp_path / "one")) == [nothing]
    assert said(write(tmp_path / "none", grid(), records=False)) == [
        "0 of 26 cells have their numbers; 26 not run yet.", nothing,
    ]  # fmt: skip


def test_two_thousand_cells_are_nine_sentences_at_most(tmp_path):
    text = said(many_cells(tmp_path / "many"))
    assert 2 < len(text) <= 9
    assert max(map(len, text)) < 250
    assert len(said(every_status(tmp_path / "every"))) <= 9


def test_names_in_the_plural_take_their_verb():
    assert clause("independent clips", "holds a frame at its seams") == "Independent clips hold a frame at their seams"
    assert clause("VidRD", "is nearer") == "VidRD is nearer"
    assert clause("independent clips", "is nearer").startswith("Independent clips are")
    assert clause("independent clips", "repeats itself less") == "Independent clips repeat themselves less"
    assert clause("fifo-plain", "has a higher IS") == "fifo-plain has a higher IS"


def test_every_phrase_says_something_of_a_difference():
    for name, phrase in PHRASES.items():
        assert phrase.noun, name
        assert bool(phrase.ratio) != bool(phrase.more and phrase.less), name
        assert "{other}" in phrase.ratio or not phrase.ratio, name
    other = phrase_of("new", measure("new thing", "", "higher", "quality"))
    assert (other.more, other.less) == ("has a higher new thing", "has a lower new thing")
