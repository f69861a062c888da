"""The answer to a suite's question, in words, computed from its records: no difference without its interval.

What became of the cells, if not all have numbers; the differences that are told most clearly, each once however many
rows show it; and one sentence on what could not be told, with the number of videos that it would take.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from reports.difference import FEW, Difference, claim, compared_axes, differences, videos_needed
from reports.format import number, plain_list
from reports.phrases import UNITS, Phrase, at, at_every, clause, name_of, never, phrase_of, plural
from reports.run_table import REFERENCE, Run, spoken

ENDS = {
    "oom": "ran out of memory",
    "timeout": "ran out of time",
    "failed": "failed",
    "invalid": "cannot be believed",
    "skipped": "skipped",
    "not run": "not run yet",
}
SENTENCES = 8  # before the one on what could not be told
STRONGEST = 50.0  # half intervals: what is clearer than that is clear enough


class Finding(NamedTuple):
    """A difference at the setting where it shows most, and how far it holds.

    Args:
        everywhere: axes at all values of which it holds.
        elsewhere: axes whose value at `shown` is to be named.
    """

    shown: Difference
    everywhere: tuple[str, ...]
    elsewhere: tuple[str, ...]


def sentences(run: Run, rows: pd.DataFrame) -> list[str]:
    """The answer, plain text, the most telling sentence first; the last says what could not be told."""
    measures = spoken(run, rows)
    found = [_oriented(run, each) for each in differences(run, rows, measures)]
    said = [counts] if (counts := _counts(rows)) else []
    bases = {axis: values[0] for axis, values in run.manifest["axes"].items() if len(values) > FEW}
    told = [_sentence(run, finding) for finding in _telling(_findings(found), SENTENCES - len(said), bases)]
    return [*said, *told, _untold(run, measures, found)]


def summary(run: Run, rows: pd.DataFrame) -> str:
    """The sentences as one paragraph."""
    return " ".join(sentences(run, rows))


def _counts(rows: pd.DataFrame) -> str:
    counts = Counter(rows["status"])
    done = counts.pop("ok", 0)
    ends = [f"{count} {ENDS.get(status, status)}" for status, count in counts.items()]
    return f"{done} of {len(rows)} cells have their numbers; {plain_list(ends)}." if ends else ""


def _oriented(run: Run, difference: Difference) -> Difference:
    """Seen from the row to speak of: the better one by a measure of quality, else the one that has more.

    Real video is what others are set against, and never the one spoken of.
    """
    if difference.other == REFERENCE:
        return difference
    fewer = run.measures[difference.measure]["better"] == "lower" and not difference.ratio
    return difference.turned() if (difference.estimate.mean < 0) != fewer else difference


def _findings(differences: Sequence[Difference]) -> list[Finding]:
    """Of the differences that say the same at several settings the one that shows most, and how far it holds."""
    compared: dict[Any, list[Difference]] = {}
    alike: dict[tuple[Any, ...], list[Difference]] = {}
    for each in differences:
        compared.setdefault(claim(each), []).append(each)
        if each.told:
            key = (each.measure, each.axis, each.of, each.other, each.estimate.mean > 0)
            alike.setdefault(key, []).append(each)
    return [_finding(told, compared[claim(told[0])]) for told in alike.values()]


def _finding(told: Sequence[Difference], compared: Sequence[Difference]) -> Finding:
    shown = max(told, key=lambda each: each.strength)
    varies = [axis for axis in shown.at if len({each.at[axis] for each in compared}) > 1]
    holds = {tuple(each.at.values()) for each in told}
    whole = all(tuple(each.at.values()) in holds for each in compared)
    everywhere = tuple(varies) if whole else ()
    for axis in varies[len(everywhere) :]:
        named = [other for other in varies if other not in (*everywhere, axis)]
        like = [each for each in compared if all(each.at[name] == shown.at[name] for name in named)]
        if len({each.at[axis] for each in like}) > 1 and all(tuple(each.at.values()) in holds for each in like):
            everywhere += (axis,)
    named = [axis for axis in varies if axis not in everywhere]
    for axis in reversed(named):  # what the others leave no choice of need not be named
        others = [name for name in named if name != axis]
        like = [each for each in compared if all(each.at[name] == shown.at[name] for name in others)]
        if len({each.at[axis] for each in like}) == 1:
            named = others
    return Finding(shown, everywhere, tuple(named))


def _telling(findings: Sequence[Finding], most: int, bases: Mapping[str, Any]) -> list[Finding]:
    """At most so many, the clearest first; what has been spoken of makes room for what has not.

    A row is spoken of once by a measure, but one of the `bases`, axis -> the value that all others are set against.
    """
    left = list(findings)
    chosen: list[Finding] = []
    measures: Counter[str] = Counter()
    axes: Counter[str] = Counter()
    limit = max(2, math.ceil(most / max(1, len({each.shown.measure for each in left}))))

    def telling(finding: Finding) -> tuple[bool, float]:
        shown = finding.shown
        said = 1 + 2 * measures[shown.measure] + 0.5 * axes[shown.axis]
        new = not any(_repeats(finding, each) for each in chosen)
        return new, math.log1p(min(shown.strength, STRONGEST)) / said

    while left and len(chosen) < most:
        best = max(left, key=telling)
        left.remove(best)
        shown = best.shown
        if measures[shown.measure] < limit and (telling(best)[0] or bases.get(shown.axis) == shown.of):
            chosen.append(best)
            measures[shown.measure] += 1
            axes[shown.axis] += 1
    return chosen


def _repeats(finding: Finding, said: Finding) -> bool:
    """Whether it says of the same row by the same measure how it stands to yet another one."""
    one, two = finding.shown, said.shown
    return (one.measure, one.axis, one.of) == (two.measure, two.axis, two.of)


def _sentence(run: Run, finding: Finding) -> str:
    shown = finding.shown
    phrase = phrase_of(shown.measure, run.measures[shown.measure])
    words = [at(axis, shown.at[axis]) for axis in finding.elsewhere]
    words += [at_every(axis) for axis in finding.everywhere]
    if len(finding.everywhere) > 1 and not finding.elsewhere:
        words = ["at every setting"]
    where = f", {' '.join(words)}" if words else ""
    return f"{_compared(phrase, shown, run.measures[shown.measure]['unit'])}{where}."


def _compared(phrase: Phrase, shown: Difference, unit: str) -> str:
    """Both values, and their difference with its interval."""
    subject = name_of(shown.axis, shown.of)
    other = REFERENCE if shown.other == REFERENCE else name_of(shown.axis, shown.other)
    mean, half = abs(shown.estimate.mean), shown.half
    if shown.ratio:
        least, ratio, most = (_times(math.exp(mean + side * half), math.exp(mean) * half) for side in (-1, 0, 1))
        said = clause(subject, phrase.ratio.format(ratio=ratio, other=other))
        read = f"{number(shown.value, unit)} against {number(shown.base, unit)} MiB, one reading each"
        return f"{said} ({read if unit == 'bytes' else f'{least} to {most}'})"
    if phrase.share and shown.base == 0 < shown.value:
        share = phrase.share.format(f"{_percent(shown.value)} % (±{_percent(half)})")
        return f"{clause(subject, share)}; {never(other)}"
    said = f"{clause(subject, phrase.more if shown.estimate.mean > 0 else phrase.less)} than {other}"
    if phrase.share:
        values = f"{_percent(shown.value)} % against {_percent(shown.base)} %"
        return f"{said}: {values}, {_percent(mean)} ±{_percent(half)} points apart"
    values = f"{phrase.noun} {_short(shown.value, half)} against {_short(shown.base, half)} {UNITS.get(unit, unit)}"
    return f"{said}: {values.rstrip()}, {number(mean, '', half)} apart"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _short(value: float, half: float) -> str:
    """The value with the digits that the interval leaves meaning."""
    text = number(value, "", half).partition(" ±")[0]
    return text if float(text) else text.removeprefix("-")


def _times(ratio: float, half: float) -> str:
    """A ratio with the digits that half of its interval leaves meaning."""
    places = min(3, max(0, -math.floor(math.log10(max(half, 1e-3)))))
    return f"{ratio:.{places}f}"


def _untold(run: Run, measures: Sequence[str], found: Sequence[Difference]) -> str:
    """The sentence on what could not be told apart: by headline along the series, else where no headline tells."""
    made = [each for each in found if each.other != REFERENCE]
    if not made:
        return "No two cells have numbers with intervals that compare."
    axes = [axis for axis in compared_axes(run) if any(each.axis == axis for each in made)] or [made[0].axis]
    claims = Counter(measure for measure, *_ in {claim(each) for each in found})
    nearest = {}  # (axis, measure) -> of what it does not tell, or None where it tells something
    for axis in axes:
        for measure in measures:
            along = [each for each in made if each.axis == axis and each.measure == measure]
            if along:
                told = any(each.told for each in along)
                nearest[axis, measure] = None if told else _nearest(along, claims[measure])
    parts = []
    silent = [(measure, near) for (axis, measure), near in nearest.items() if axis == axes[0] and near]
    if silent:
        said = [f"{phrase_of(measure, run.measures[measure]).noun}{_needed(run, near, first=i == 0)}"
                for i, (measure, near) in enumerate(silent)]  # fmt: skip
        parts.append(f"{plain_list(said)} cannot tell the {plural(axes[0])} apart")
    for axis in axes[1:]:
        kept = [near for (name, _), near in nearest.items() if name == axis]
        if all(kept):
            best = min((near for near in kept if near), key=lambda near: near.needed)
            said_needed = _needed(run, best, first=not parts).removeprefix(" (")
            of = phrase_of(best.difference.measure, run.measures[best.difference.measure]).noun
            parts.append(f"no headline tells the {plural(axis)} apart ({of}: {said_needed}")
    if not parts:
        return f"Every headline tells some of the {plural(axes[0])} apart."
    videos = max((each.size for each in made if not each.ratio), default=0)
    said_ = f"{plain_list(parts)}."
    return f"With {videos} videos, {said_}" if videos else said_[:1].upper() + said_[1:]


class Near(NamedTuple):
    """The untold difference that the fewest videos or repeats would tell, and how many; infinite: no number would."""

    difference: Difference
    needed: float


def _nearest(along: Sequence[Difference], claims: int) -> Near:
    return min((Near(each, videos_needed(each, claims)) for each in along), key=lambda near: near.needed)


def _needed(run: Run, near: Near, *, first: bool) -> str:
    measure = near.difference.measure
    repeats = "batches" if phrase_of(measure, run.measures[measure]).samples else "repeats"
    what = f" {repeats}" if near.difference.ratio else ""
    if near.difference.estimate.mean == 0:
        return " (equal)"
    if math.isinf(near.needed):
        return f" (too close for any number of {what.strip() or 'videos'})"
    return f" ({'about ' * first}{_rounded(near):,.0f}{what}{' would be needed' * first})"


def _rounded(near: Near) -> float:
    """One digit of it, and more than there are."""
    nearest = float(f"{near.needed:.0e}")
    return nearest if nearest > near.difference.size else nearest + 10 ** math.floor(math.log10(near.needed))
