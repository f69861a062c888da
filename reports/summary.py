"""The answer to a suite's question in sentences, computed from its records: no difference without its interval.

First the state of the cells, if not all have numbers; then the clearest differences, each once, however many rows show
it; last, one sentence on what could not be told apart, with the number of videos that it would take.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from reports.format import number, plain_list
from reports.multiple_comparisons import FEW, Difference, claim, compared_axes, differences, videos_needed
from reports.phrases import UNITS, Phrase, at, at_every, clause, name_of, never, phrase_of, plural
from reports.run_table import REFERENCE, Run, reported

ENDS = {
    "oom": "ran out of memory",
    "timeout": "ran out of time",
    "failed": "failed",
    "invalid": "cannot be believed",
    "skipped": "skipped",
    "not run": "not run yet",
}
SENTENCES = 8  # before the one on what could not be told
STRONGEST = 50.0  # half intervals: a difference that is clearer counts as this clear


class Finding(NamedTuple):
    """A difference at the setting where it is clearest, and how far it holds.

    Args:
        shown: the difference at that setting.
        everywhere: axes at all of whose values it holds.
        elsewhere: axes whose value at `shown` the sentence has to name.
    """

    shown: Difference
    everywhere: tuple[str, ...]
    elsewhere: tuple[str, ...]


def sentences(run: Run, rows: pd.DataFrame) -> list[str]:
    """The answer as plain text, the clearest difference first; the last sentence says what could not be told apart."""
    measures = reported(run, rows)
    oriented = [_oriented(run, each) for each in differences(run, rows, measures)]
    state = [counts] if (counts := _counts(rows)) else []
    bases = {axis: values[0] for axis, values in run.manifest["axes"].items() if len(values) > FEW}
    clearest = _choose(_findings(oriented), SENTENCES - len(state), bases)
    state = [*run.manifest.get("conclusions", ()), *state]
    return [*state, *(_sentence(run, finding) for finding in clearest), _not_told_apart(run, measures, oriented)]


def summary(run: Run, rows: pd.DataFrame) -> str:
    """The sentences as one paragraph."""
    return " ".join(sentences(run, rows))


def _counts(rows: pd.DataFrame) -> str:
    counts = Counter(rows["status"])
    done = counts.pop("ok", 0)
    ends = [f"{count} {ENDS.get(status, status)}" for status, count in counts.items()]
    return f"{done} of {len(rows)} cells have their numbers; {plain_list(ends)}." if ends else ""


def _oriented(run: Run, difference: Difference) -> Difference:
    """Turned so that the sentence is about the better row by a measure of quality, else about the row that has more.

    Real video is only compared with; no sentence is about it.
    """
    if difference.other == REFERENCE:
        return difference
    fewer = run.measures[difference.measure]["better"] == "lower" and not difference.ratio
    return difference.reversed() if (difference.estimate.mean < 0) != fewer else difference


def _findings(differences: Sequence[Difference]) -> list[Finding]:
    """Significant differences that say the same at several settings, as one finding each."""
    compared: dict[Any, list[Difference]] = {}
    alike: dict[tuple[Any, ...], list[Difference]] = {}
    for each in differences:
        compared.setdefault(claim(each), []).append(each)
        if each.significant:
            key = (each.measure, each.axis, each.of, each.other, each.estimate.mean > 0)
            alike.setdefault(key, []).append(each)
    return [_finding(several, compared[claim(several[0])]) for several in alike.values()]


def _finding(alike: Sequence[Difference], compared: Sequence[Difference]) -> Finding:
    """The clearest of the `alike` differences, and at which of all `compared` settings they hold."""
    shown = max(alike, key=lambda each: each.strength)
    varies = [axis for axis in shown.at if len({each.at[axis] for each in compared}) > 1]
    holds = {tuple(each.at.values()) for each in alike}
    whole = all(tuple(each.at.values()) in holds for each in compared)
    everywhere = tuple(varies) if whole else ()
    for axis in varies[len(everywhere) :]:
        named = [other for other in varies if other not in (*everywhere, axis)]
        like = [each for each in compared if all(each.at[name] == shown.at[name] for name in named)]
        if len({each.at[axis] for each in like}) > 1 and all(tuple(each.at.values()) in holds for each in like):
            everywhere += (axis,)
    named = [axis for axis in varies if axis not in everywhere]
    for axis in reversed(named):  # an axis whose value follows from the others need not be named
        others = [name for name in named if name != axis]
        like = [each for each in compared if all(each.at[name] == shown.at[name] for name in others)]
        if len({each.at[axis] for each in like}) == 1:
            named = others
    return Finding(shown, everywhere, tuple(named))


def _choose(findings: Sequence[Finding], most: int, bases: Mapping[str, Any]) -> list[Finding]:
    """At most `most` findings, the clearest first; measures and axes that were already used count less.

    A row appears once per measure, except those of `bases`: axis -> the value that all others are compared with.
    """
    left = list(findings)
    chosen: list[Finding] = []
    measures: Counter[str] = Counter()
    axes: Counter[str] = Counter()
    limit = max(2, math.ceil(most / max(1, len({each.shown.measure for each in left}))))

    def priority(finding: Finding) -> tuple[bool, float]:
        shown = finding.shown
        used = 1 + 2 * measures[shown.measure] + 0.5 * axes[shown.axis]
        new = not any(_repeats(finding, each) for each in chosen)
        return new, math.log1p(min(shown.strength, STRONGEST)) / used

    while left and len(chosen) < most:
        best = max(left, key=priority)
        left.remove(best)
        shown = best.shown
        if measures[shown.measure] < limit and (priority(best)[0] or bases.get(shown.axis) == shown.of):
            chosen.append(best)
            measures[shown.measure] += 1
            axes[shown.axis] += 1
    return chosen


def _repeats(finding: Finding, earlier: Finding) -> bool:
    """Whether both compare the same row by the same measure, each with another row."""
    one, two = finding.shown, earlier.shown
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
        text = clause(subject, phrase.ratio.format(ratio=ratio, other=other))
        readings = f"{number(shown.value, unit)} against {number(shown.base, unit)} MiB, one reading each"
        return f"{text} ({readings if unit == 'bytes' else f'{least} to {most}'})"
    if phrase.share and shown.base == 0 < shown.value:
        share = phrase.share.format(f"{_percent(shown.value)} % (±{_percent(half)})")
        return f"{clause(subject, share)}; {never(other)}"
    text = f"{clause(subject, phrase.more if shown.estimate.mean > 0 else phrase.less)} than {other}"
    if phrase.share:
        values = f"{_percent(shown.value)} % against {_percent(shown.base)} %"
        return f"{text}: {values}, {_percent(mean)} ±{_percent(half)} points apart"
    values = f"{phrase.noun} {_short(shown.value, half)} against {_short(shown.base, half)} {UNITS.get(unit, unit)}"
    return f"{text}: {values.rstrip()}, {number(mean, '', half)} apart"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _short(value: float, half: float) -> str:
    """The value with as many digits as its interval justifies."""
    text = number(value, "", half).partition(" ±")[0]
    return text if float(text) else text.removeprefix("-")


def _times(ratio: float, half: float) -> str:
    """A ratio with as many digits as half of its interval justifies."""
    places = min(3, max(0, -math.floor(math.log10(max(half, 1e-3)))))
    return f"{ratio:.{places}f}"


def _not_told_apart(run: Run, measures: Sequence[str], tested: Sequence[Difference]) -> str:
    """The sentence on what could not be told apart: by headline along the first axis; along others if by none."""
    between_cells = [each for each in tested if each.other != REFERENCE]
    if not between_cells:
        return "No two cells have numbers with intervals that can be compared."
    axes = [axis for axis in compared_axes(run) if any(each.axis == axis for each in between_cells)] or [
        between_cells[0].axis
    ]
    claims = Counter(measure for measure, *_ in {claim(each) for each in tested})
    nearest = {}  # (axis, measure) -> the nearest of what it does not tell apart; None if it tells some values apart
    for axis in axes:
        for measure in measures:
            along = [each for each in between_cells if each.axis == axis and each.measure == measure]
            if along:
                tells = any(each.significant for each in along)
                nearest[axis, measure] = None if tells else _nearest(along, claims[measure])
    parts = []
    silent = [(measure, near) for (axis, measure), near in nearest.items() if axis == axes[0] and near]
    if silent:
        nouns = [f"{phrase_of(measure, run.measures[measure]).noun}{_needed(run, near, first=i == 0)}"
                for i, (measure, near) in enumerate(silent)]  # fmt: skip
        parts.append(f"{plain_list(nouns)} cannot tell the {plural(axes[0])} apart")
    for axis in axes[1:]:
        kept = [near for (name, _), near in nearest.items() if name == axis]
        if all(kept):
            best = min((near for near in kept if near), key=lambda near: near.needed)
            needed = _needed(run, best, first=not parts).removeprefix(" (")
            of = phrase_of(best.difference.measure, run.measures[best.difference.measure]).noun
            parts.append(f"no headline tells the {plural(axis)} apart ({of}: {needed}")
    if not parts:
        return f"Every headline tells some of the {plural(axes[0])} apart."
    videos = max((each.size for each in between_cells if not each.ratio), default=0)
    text = f"{plain_list(parts)}."
    return f"With {videos} videos, {text}" if videos else text[:1].upper() + text[1:]


class Near(NamedTuple):
    """The difference that needs the fewest videos or repeats to be significant, and how many; may be infinite."""

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
    """The needed number to one digit, and more than there are now."""
    nearest = float(f"{near.needed:.0e}")
    return nearest if nearest > near.difference.size else nearest + 10 ** math.floor(math.log10(near.needed))
