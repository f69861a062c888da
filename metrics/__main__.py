"""Metrics of folders of videos: video files, arrays (uint8, N T H W C) or folders of frames.

A generated set is compared with a real one by a named protocol. Every number is printed with its n and interval;
--json also writes the manifest, which says how they were made. Scores with unequal manifests are not compared.
"""

import json
import sys
from dataclasses import asdict

from metrics import METRICS
from metrics.cli_options import (
    Alignment,
    Compare,
    Fvd,
    InceptionScore,
    Jitter,
    Kvd,
    Minutes,
    OnePass,
    Vbench,
    Verb,
    Verify,
)
from metrics.command_line import parse
from metrics.entry import obey, one_line
from metrics.evaluation.progress import ProgressPrinter
from metrics.evaluation.result import Result, compare, differences, same_videos
from metrics.files import write_text
from metrics.jitter_verb import measure_jitter
from metrics.set_verbs import measure, weights_place


def _print(line: str) -> None:
    """Print a line, which may hold names out of files, without what moves a terminal's cursor."""
    print(line if line.isprintable() else one_line(line))


def show(result: Result) -> None:
    """Print scores, with what a reader must know of them."""
    width = max(20, *map(len, result.scores))
    for name, score in result.scores.items():
        interval = "" if score.low is None else f"  95 % [{score.low:.4g}, {score.high:.4g}]"
        _print(f"{name:{width}} {score.value:10.4f}{interval}  n = {score.n}")
    for note in result.notes:
        _print(f"  {' '.join(note.split())}")
    for name in dict.fromkeys(name.split(":")[0].removesuffix("_real") for name in result.scores):
        if name in METRICS:
            print(f"  {name} is blind to {METRICS[name].blind}")


def verify_weights(verb: Verify) -> int:
    """Verify a file of weights and print the findings; returns the exit code."""
    from metrics.networks.device import resolve_device  # noqa: PLC0415
    from metrics.networks.verify import CONSTANT_CLIPS, SOME_LENGTHS, describe, verify  # noqa: PLC0415 - torch is slow to import

    lengths = tuple(CONSTANT_CLIPS) if verb.all_lengths else SOME_LENGTHS
    verification = verify(verb.weights, lengths=lengths, device=resolve_device(verb.device), export_to=verb.export)
    for line in describe(verification).split("\n"):
        _print(line)
    if verb.json is not None:
        write_text(verb.json, json.dumps(asdict(verification), indent=1, allow_nan=False) + "\n")
    return {"right": 0, "wrong": 2, "unrecognised": 4}[verification.verdict]


def run(verb: Verb) -> int:
    """Carry out a verb; returns the exit code.

    Raises:
        ValueError: what a user can fix.
    """
    if isinstance(verb, OnePass):
        from metrics.score_verb import score_in_one_pass  # noqa: PLC0415 - torch is slow to import

        for name, result in score_in_one_pass(verb, ProgressPrinter()).items():
            show(result)
            if verb.json is not None:
                verb.json.mkdir(parents=True, exist_ok=True)
                write_text(verb.json / f"{name}.json", result.to_json())
        return 0
    if isinstance(verb, Fvd | Kvd | InceptionScore):
        target = verb.common.json
    else:
        target = verb.reading.json if isinstance(verb, Vbench | Alignment | Minutes) else verb.json
    if isinstance(verb, Verify):
        return verify_weights(verb)
    if isinstance(verb, Compare):
        first, second = (Result.from_json(path) for path in (verb.first, verb.second))
        scores = compare(first, second, force=verb.force)
        notes = ["the same videos on both sides: paired" if same_videos(first, second) else "other videos: not paired"]
        if different := differences(first.manifest, second.manifest):
            notes.append(f"forced: these scores were made differently, they differ in {'; '.join(different)}")
        result = Result(scores, first.manifest, second.made_with, {}, notes)
    elif isinstance(verb, Vbench | Alignment | Minutes):
        from metrics.folder_verbs import measure_folder  # noqa: PLC0415 - torch is slow to import

        result = measure_folder(verb, verb.reading.weights or weights_place(), ProgressPrinter())
    else:
        result = measure_jitter(verb) if isinstance(verb, Jitter) else measure(verb)
    show(result)
    if target is not None:
        write_text(target, result.to_json())
    return 0


def main() -> None:
    """Parse, run, print; ends the process where the exit code is not 0."""
    code = obey("metrics", lambda: run(parse(sys.argv[1:], __doc__)))
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
