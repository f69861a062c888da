"""The result of an evaluation: scores, the manifest that must be equal for two results to be comparable, and notes.

Nothing here needs torch, so that results can be compared on any machine.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from metrics.files import read_text
from metrics.intervals import mean_score
from metrics.paired import difference_of_scores
from metrics.score import Score

PACKAGES = ("numpy", "scipy", "torch", "av", "opencv-python-headless", "pillow")


@dataclass(frozen=True)
class Result:
    """Scores with all that is needed to read them."""

    scores: dict[str, Score]
    manifest: dict[str, object]  # must be equal for scores to be comparable
    made_with: dict[str, object]  # may differ
    values: dict[str, list[float]] = field(default_factory=dict)  # per score that is a mean: one value per video
    notes: list[str] = field(default_factory=list)  # lines that a reader must know

    def named(self) -> "Result":
        """The same with the protocol in the name of every score: fvd:styleganv."""
        ending = f":{self.manifest['protocol']}"
        return replace(
            self,
            scores={name + ending: score for name, score in self.scores.items()},
            values={name + ending: values for name, values in self.values.items()},
        )

    def to_json(self) -> str:
        """One JSON object; a missing end of an interval is absent, there is no NaN."""
        record = {
            "scores": {name: score.as_record() for name, score in self.scores.items()},
            "manifest": self.manifest,
            "made_with": self.made_with,
            "left_out": {name: score.replicates for name, score in self.scores.items() if score.replicates},
            "values": self.values,
            "notes": self.notes,
            "schema": 1,
        }
        return json.dumps(record, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, path: Path | str) -> "Result":
        """Read what `to_json` wrote to a file.

        Raises:
            ValueError: no such file, or another content.
        """
        try:
            record = json.loads(read_text(path), parse_constant=_no_number)
            if record.pop("schema") != 1:
                raise ValueError("it has another schema")
            replicates = {name: tuple(map(_numbers, sides)) for name, sides in record.pop("left_out").items()}
            scores = {name: _score(each, replicates.get(name, ())) for name, each in record.pop("scores").items()}
            values = {name: _numbers(each) for name, each in record.pop("values").items()}
            notes = [str(note) for note in record.pop("notes")]
            parts = record.pop("manifest"), record.pop("made_with")
            if record or not all(isinstance(part, dict) for part in parts):
                raise ValueError("it has other parts")
            return cls(scores, *parts, values, notes)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path} holds no scores of `python -m metrics ... --json`: {error!r}") from error


def _score(record: Mapping[str, object], replicates: tuple[list[float], ...]) -> Score:
    value, n = _numbers([record["value"], record["n"]])
    low, high = (_numbers([record[end]])[0] if end in record else None for end in ("low", "high"))
    return Score(value, int(n), low, high, replicates)


def _numbers(values: object) -> list[float]:
    """Floats of a list of finite numbers."""
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise ValueError("there is no number where one should be")
    return [float(value) for value in values]


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def compare(first: Result, second: Result, *, force: bool = False) -> dict[str, Score]:
    """second - first of every score that both have, with an interval where there are values to compute one from.

    Videos are paired where both sets have the same names in the same order, as those of the same prompts and seeds do;
    a real set is paired where it is the same on both sides. Otherwise the variances of the two intervals add up.

    Raises:
        ValueError: manifests that differ, unless forced; or no score in common.
    """
    if (different := differences(first.manifest, second.manifest)) and not force:
        raise ValueError(
            f"these scores are not comparable, they differ in {'; '.join(different[:5])}: score both alike, or --force"
        )
    ours, theirs = _by_bare_name(first), _by_bare_name(second)
    shared = [(ours[name], theirs[name]) for name in ours if name in theirs]
    if not shared:
        raise ValueError(
            f"the two results have no score in common: got {', '.join(first.scores)} and {', '.join(second.scores)}"
        )
    paired = same_videos(first, second)
    real = first.manifest.get("real") is not None and first.manifest["real"] == second.manifest.get("real")
    scores = {}
    for name, other in shared:
        a, b = first.scores[name], second.scores[other]
        alone = real if "_real" in name else paired  # where a score looks at one side only
        if a.replicates and b.replicates:  # first: a mean over frames has values of videos beside it
            scores[name] = difference_of_scores(a, b, paired=[real, paired] if len(a.replicates) == 2 else [alone])
        elif name in first.values and other in second.values:
            scores[name] = _difference_of_values(first.values[name], second.values[other], alone)
        else:
            scores[name] = Score(b.value - a.value, min(a.n, b.n))
    return scores


def _by_bare_name(result: Result) -> dict[str, str]:
    """Names without the protocol -> names: scores of two protocols are compared only if forced."""
    ending = f":{result.manifest.get('protocol')}"
    return {name.removesuffix(ending): name for name in result.scores}


def same_videos(first: Result, second: Result) -> bool:
    """Whether both scored videos of the same names in the same order."""
    names = [fake.get("names_sha256") for fake in (_fake(first), _fake(second))]
    return names[0] is not None and names[0] == names[1]


def _fake(result: Result) -> Mapping[str, object]:
    fake = result.made_with.get("fake")
    return fake if isinstance(fake, Mapping) else {}


def _difference_of_values(first: Sequence[float], second: Sequence[float], paired: bool) -> Score:
    if paired and len(first) == len(second):
        return mean_score([b - a for a, b in zip(first, second, strict=True)])
    a, b = mean_score(first), mean_score(second)
    value, n = b.value - a.value, min(a.n, b.n)
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Score(value, n)
    reach = (((a.high - a.low) / 2) ** 2 + ((b.high - b.low) / 2) ** 2) ** 0.5
    return Score(value, n, value - reach, value + reach)


def differences(first: object, second: object, where: str = "") -> list[str]:
    """Where two manifests differ, one line per difference: "network: a, b"."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return [
            line
            for key in dict.fromkeys([*first, *second])
            for line in differences(first.get(key), second.get(key), f"{where}.{key}" if where else str(key))
        ]
    return [] if first == second else [f"{where}: {first}, {second}"]


def versions() -> dict[str, object]:
    """Versions of the packages that numbers depend on; None for one that is not installed."""
    numbers: dict[str, object] = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            numbers[package] = version(package)
        except PackageNotFoundError:
            numbers[package] = None
    return numbers
