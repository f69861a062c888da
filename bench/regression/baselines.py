"""Stored baselines: counts in a file, keyed by recipe, hardware and software. Only a person changes them.

Times are stored for information and never judged: times of two sessions do not compare, see docs/gate-simulation.md.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bench.regression.counts import counted
from bench.results.records import digest, is_value, write_atomic
from bench.results.verdicts import Finding, same_recipe


class BaselineKey(NamedTuple):
    """What two measurements must share to be compared; revision, host name and date are not part of it."""

    recipe: str  # of the cell's values
    hardware: str
    software: str

    def __str__(self) -> str:
        return "-".join(self)


def key_of(values: Mapping[str, Any], hardware: Mapping[str, Any], software: Mapping[str, Any]) -> BaselineKey:
    """The key of a cell of these settings, measured with this hardware and software."""
    return BaselineKey(digest(dict(values)), digest(dict(hardware)), digest(dict(software)))


def load(path: Path) -> dict[str, Any]:
    """Key -> entry; {} if there is no file.

    Raises:
        ValueError: the file is no store of baselines.
    """
    if not path.exists():
        return {}
    try:
        entries: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["baselines"]
        whole = all(
            len(key.split("-")) == len(BaselineKey._fields)
            and {"recipe", "sha256", "counts"} <= set(entry)
            and isinstance(entry["recipe"], dict)
            and all(map(is_value, entry["counts"].values()))
            for key, entry in entries.items()
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} holds no baselines ({error}): make it with --calibrate") from None
    if not whole:
        raise ValueError(f"{path} holds no baselines (an entry was changed by hand): make it with --calibrate")
    return entries


def check_person() -> None:
    """Raise ValueError in CI, where no person decides what the baselines are."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        raise ValueError("baselines are raised by a person, not in CI: run --calibrate by hand and commit the file")


def check_baseline(label: str, key: BaselineKey, entries: Mapping[str, Any], facts: Mapping[str, Any]) -> list[Finding]:
    """Compare the counts, recipe and output hash of `facts` with the entry of this key."""
    entry = entries.get(str(key))
    if entry is None:
        known = [dict(zip(BaselineKey._fields, name.split("-"), strict=True)) for name in entries]
        matching = [each for each in known if each["recipe"] == key.recipe]
        other = [
            field for field in ("hardware", "software") if all(each[field] != getattr(key, field) for each in matching)
        ]
        why = f"other {' and '.join(other)} than any baseline of it" if matching and other else "no baseline of it"
        return [Finding(label, "baseline", "CALIBRATION_NEEDED", f"{why}: look at the numbers, then use --calibrate")]
    recipe = same_recipe(label, entry["recipe"], facts["recipe"])
    if recipe.verdict != "PASS":
        return [recipe]
    same = facts["sha256"] == entry["sha256"]
    output = Finding(
        label, "output", "PASS" if same else "INCONCLUSIVE",
        "equal bits" if same else "other bits than the baseline's: measure both with --base to see how far apart",
    )  # fmt: skip
    return [recipe, *counted(label, entry["counts"], facts["counts"]), output]


def calibrate(path: Path, fresh: Mapping[str, Mapping[str, Any]]) -> None:
    """Write entries, replacing those of equal keys.

    Raises:
        ValueError: in CI, where no person decides.
    """
    check_person()
    entries = load(path) | {key: dict(entry) for key, entry in fresh.items()}
    content = {"baselines": entries}
    write_atomic(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")
