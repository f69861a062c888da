"""What a scoring returns: numbers, the manifest that must be equal for two of them to compare, and what else happened.

Nothing here needs torch, so that results compare on any machine.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from metrics.intervals import mean_score
from metrics.paired import difference_of_replicates
from metrics.score import Replicated, Score

PACKAGES = ("numpy", "scipy", "torch", "av", "opencv-python-headless")


@dataclass(frozen=True)
class Result:
    """Scores with all that must stand beside them."""

    scores: dict[str, Score]
    manifest: dict[str, object]  # must be equal for scores to compare
    made_with: dict[str, object]  # need not
    left_out: dict[str, tuple[list[float], ...]] = field(default_factory=dict)  # per score, see `Replicated`
    values: dict[str, list[float]] = field(default_factory=dict)  # per score, the videos' own
    notes: list[str] = field(default_factory=list)  # what a reader must know, a line each

    def named(self) -> "Result":
        """The same with the protocol in the name of every score: fvd:styleganv."""
        ending = f":{self.manifest['protocol']}"
        return replace(
            self,
            scores={name + ending: score for name, score in self.scores.items()},
            left_out={name + ending: values for name, values in self.left_out.items()},
            values={name + ending: values for name, values in self.values.items()},
        )

    def to_json(self) -> str:
        """One JSON object; a missing end of an interval is absent, there is no NaN."""
        scores = {
            name: {key: value for key, value in score._asdict().items() if value is not None}
            for name, score in self.scores.items()
        }
        record = {**{item.name: getattr(self, item.name) for item in fields(self)}, "scores": scores, "schema": 1}
        return json.dumps(record, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, path: Path | str) -> "Result":
        """Read what `to_json` wrote to a file.

        Raises:
            ValueError: no such file, or another content.
        """
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
            if record.pop("schema") != 1:
                raise ValueError("it has another schema")
            scores = {
                name: Score(score["value"], score["n"], score.get("low"), score.get("high"))
                for name, score in record.pop("scores").items()
            }
            left_out = {name: tuple(sides) for name, sides in record.pop("left_out").items()}
            return cls(scores=scores, left_out=left_out, **record)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} holds no scores of `python -m metrics ... --json`: {error!r}") from error


def compare(first: Result, second: Result, *, force: bool = False) -> dict[str, Score]:
    """second - first of every score that both have, with an interval where one can be had.

    Videos are paired where both sets bear the same names in the same order, as those of the same prompts and seeds do;
    a real set is paired where it is the same on both sides. Else the two intervals' variances add.

    Raises:
        ValueError: manifests that differ, unless forced; or no score in common.
    """
    if (different := differences(first.manifest, second.manifest)) and not force:
        raise ValueError(
            f"these scores do not compare, they differ in {'; '.join(different[:5])}: score both alike, or --force"
        )
    ours, theirs = _by_bare_name(first), _by_bare_name(second)
    shared = [(ours[name], theirs[name]) for name in ours if name in theirs]
    if not shared:
        raise ValueError(f"no score in common: {', '.join(first.scores)} and {', '.join(second.scores)}")
    paired = same_videos(first, second)
    real = first.manifest.get("real") is not None and first.manifest["real"] == second.manifest.get("real")
    found = {}
    for name, other in shared:
        a, b = first.scores[name], second.scores[other]
        alone = real if "_real" in name else paired  # where a score looks at one side only
        if name in first.values and other in second.values:
            found[name] = _difference_of_values(first.values[name], second.values[other], alone)
        elif first.left_out.get(name) and second.left_out.get(other):
            sides = [real, paired] if len(first.left_out[name]) == 2 else [alone]
            found[name] = difference_of_replicates(
                Replicated(a, first.left_out[name]), Replicated(b, second.left_out[other]), paired=sides
            )
        else:
            found[name] = Score(b.value - a.value, min(a.n, b.n))
    return found


def _by_bare_name(result: Result) -> dict[str, str]:
    """Names without the protocol -> names: only what is forced compares under two protocols."""
    ending = f":{result.manifest.get('protocol')}"
    return {name.removesuffix(ending): name for name in result.scores}


def same_videos(first: Result, second: Result) -> bool:
    """Whether both scored videos of the same names in the same order."""
    names = [made.get("names_sha256") for made in (_fake(first), _fake(second))]
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
    """Where two manifests differ, a line each: "network: a, b"."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return [
            line
            for key in dict.fromkeys([*first, *second])
            for line in differences(first.get(key), second.get(key), f"{where}.{key}" if where else str(key))
        ]
    return [] if first == second else [f"{where}: {first}, {second}"]


def versions() -> dict[str, object]:
    """Versions of what the numbers passed through."""
    found: dict[str, object] = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found
