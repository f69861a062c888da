"""The reproduction card: what another lab needs to get the same numbers, as data. `reports.ucf101.report` prints it."""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.hardware.machine import machine, revision, software
from bench.results.records import write_atomic
from bench.ucf101.plan import Plan, plan_record
from bench.ucf101.protocols import PROTOCOLS, SETTINGS
from metrics.evaluation.result import Result

FILE = "ucf101.json"
SCHEMA = 1


def write_card(
    out: Path,
    plan: Plan,
    results: Mapping[str, Mapping[str, Result]],  # method, or name of given videos -> score's name -> result
    *,
    archive: Mapping[str, object],
    apart: Sequence[str],  # why these numbers are not comparable with published ones; () if they are
    world: str,  # "" or what the numbers are called instead: "stand-in", "partial", "unofficial", "unverified"
    made: Mapping[str, Mapping[str, object]],  # method -> options, fe, devices, hash of the lines, seconds
    seconds: Mapping[str, float],  # of the stages of this command
    estimate: Mapping[str, object] | None,
) -> Path:
    """Write table and card as one file of data, whole or not at all."""
    content = {
        "schema": SCHEMA,
        "world": world,
        "apart": list(apart),
        "rows": [_row(name, found, plan) for name, found in results.items()],
        "card": {
            "plan": plan_record(plan),
            "stated": stated(plan),
            "prompts": prompts_of(plan),
            "archive": dict(archive),
            "made": {name: dict(each) for name, each in made.items()},
            "scores": {name: {key: each.manifest for key, each in found.items()} for name, found in results.items()},
            "seconds": dict(seconds),
            "estimate": estimate,
            "machine": machine(),
            "software": software(),
            "revision": str(revision()),
            "command": ["python", "-m", "bench", *sys.argv[1:]],
        },
    }
    write_atomic(out / FILE, json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    return out / FILE


def stated(plan: Plan) -> list[dict[str, str]]:
    """Every setting of the protocol: its value, whether its source says it, and else why it is so."""
    row, kept = PROTOCOLS[plan.protocol], plan_record(plan)["settings"]
    assert isinstance(kept, dict)
    changes = dict(change.split(": ", 1) for change in plan.changes)
    return [
        {
            "setting": name,
            "value": json.dumps(kept[name], ensure_ascii=False),
            "by": "changed" if name in changes else "unstated" if name in row.unstated else "source",
            "why": changes.get(name) or row.unstated.get(name, ""),
        }
        for name in SETTINGS
    ]


def prompts_of(plan: Plan) -> list[dict[str, object]]:
    """Every prompt with how many videos are made of it, in the order of their ids."""
    counts = Counter((item.prompt_id, item.class_name, item.prompt) for item in plan.items)
    return [
        {"id": prompt_id, "class": class_name, "prompt": prompt, "videos": videos}
        for (prompt_id, class_name, prompt), videos in sorted(counts.items())
    ]


def _row(name: str, results: Mapping[str, Result], plan: Plan) -> dict[str, object]:
    scores = {key: result.scores[key.partition(":")[0]].as_record() for key, result in results.items()}
    floors = {key: r.scores["fvd_floor"].as_record() for key, r in results.items() if "fvd_floor" in r.scores}
    ceilings = {key: r.scores["is_ceiling"].as_record() for key, r in results.items() if "is_ceiling" in r.scores}
    real = {key: r.manifest["real"] for key, r in results.items() if isinstance(r.manifest.get("real"), Mapping)}
    return {
        "name": name,
        "protocol": plan.protocol,
        "changes": list(plan.changes),
        "scores": scores,
        "floors": floors,
        "ceilings": ceilings,
        "n_real": {key: each["clips"] for key, each in real.items() if isinstance(each, Mapping)},
        "notes": {key: result.notes for key, result in results.items()},
    }
