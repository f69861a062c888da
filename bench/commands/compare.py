"""`python -m bench compare`: what changed between two finished runs."""

import json
import time
from pathlib import Path
from typing import Annotated

import tyro

from bench.commands.gate import show_verdict
from bench.regression.compare_runs import compare, load
from bench.results.option_types import Margin, Place, PositiveMargin, TargetFile, TargetFolder, check_place
from bench.results.records import write_atomic
from bench.results.verdicts import EXIT_CODES, overall


def compare_(
    base: Annotated[Path, tyro.conf.Positional],
    head: Annotated[Path, tyro.conf.Positional],
    margin: Margin = 0.07,
    quality_margin: PositiveMargin = 0.10,
    other_weights: bool = False,
    out: TargetFolder | None = None,
    junit: TargetFile | None = None,
    json_: Annotated[TargetFile | None, tyro.conf.arg(name="json")] = None,
) -> int:
    """What changed between two finished runs? Their times alone prove nothing: `gate` measures both sides in one run.

    Exit codes: 0 PASS, 1 FAIL, 2 INVALID, 3 wrong usage, 4 INCONCLUSIVE or CALIBRATION_NEEDED.

    Args:
        base: Folder of a run, for example runs/pocket.
        head: Folder of the run that is judged.
        margin: A slow-down up to this share passes.
        quality_margin: Loss of quality that passes, as a share of the base's value.
        other_weights: Compare even if the head measured other weights, that is, another model; without it, no PASS.
        out: Folder for verdict.json and verdict.md; the head's run if not given.
        junit: Also write the verdict as JUnit XML.
        json_: Also write the verdict as JSON.
    """
    before, after = load(base), load(head)
    place = out or head
    check_place("--out", place, Place("target folder"))
    began = time.monotonic()
    findings = compare(before, after, margin=margin, quality_margin=quality_margin, other_weights=other_weights)
    content = {
        "verdict": overall(findings),
        "suite": after.manifest["suite"],
        "base": before.manifest["revision"],
        "head": after.manifest["revision"],
        "findings": [finding.to_dict() for finding in findings],
        "machine": after.manifest["machine"],
        "settings": {"base": str(base), "head": str(head)},
        "seconds": round(time.monotonic() - began, 1),
        "written": after.manifest["written"],
    }
    place.mkdir(exist_ok=True)
    for file in (place / "verdict.json", json_):
        if file is not None:
            write_atomic(file, json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False))
    report_code = show_verdict(place / "verdict.json", junit)
    return EXIT_CODES[overall(findings)] if report_code == 0 else report_code
