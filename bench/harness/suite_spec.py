"""A suite is a question, and the grid of cells that answers it.

    suite --override--> suite --plan--> cells, each with the reason why it cannot run, or none

Plain data: nothing here knows what a cell does.
"""

import difflib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, TypeAlias

from bench.results.records import Better, Cell, Record, Value, digest

Values: TypeAlias = Mapping[str, Value]

MOST_CELLS = 20_000  # of a plan
MOST: Mapping[str, int] = {"seed": 10**18 - 1}
MOST_OTHERWISE = 20_000  # of every other whole number: what is counted in cells, frames or steps is planned one by one


class Measure(NamedTuple):
    """What a column of the report means."""

    title: str
    unit: str
    better: Better | None
    table: Literal["quality", "prompt", "cost"]
    definition: str


class PlannedCell(NamedTuple):
    """A cell of the plan.

    Args:
        reference: whether other cells are compared with it and it is no point of the grid, so that a report shows it
            apart.
        skip: why it cannot run, or None.
    """

    cell: Cell
    reference: bool
    skip: str | None
    cost: float


class Prediction(NamedTuple):
    """What is known of a cell before it runs.

    Args:
        flops: of all its videos.
        peak_bytes: of weights and tensors at one time; libraries come on top.
        seconds: the least that this machine takes, at the peaks measured on it; None: no peaks were measured yet.
    """

    flops: float
    peak_bytes: float
    seconds: float | None


@dataclass(frozen=True)
class Suite:
    """A sweep.

    Args:
        question: what the sweep answers, one line.
        workload: the kind of work that its cells are, a key of `bench.workloads.WORKLOADS`.
        axes: name -> values; the cells are their product, the last axis fastest.
        fixed: name -> the one value that all cells share. An override may turn it into an axis.
        measures: name -> what a report says of it. A cell that is ok has a number for each, or the reason why not.
        group: the axis by which the report splits its tables.
        headlines: measures that a report's answer speaks of; without any, the first of each table that is better lower
            or higher.
        apart: axes whose values do different work, so that a report compares nothing across them.
        files: files and folders, from the root of the project, on whose content the results depend (weights).
        allowed: name -> the only values it may have. Other names take any value of the type of their first one.
        least: name -> smallest number that it may have (0 if not named). The largest is `MOST`, or `MOST_OTHERWISE`.
        settle: sets what has no meaning in a combination to its one neutral value (the overlap of a method whose clips
            do not overlap). Combinations that become equal are one cell.
        fill: sets what a settled combination leaves open to what its model says, for which it may load the model's code
            for seconds. Combinations that were apart stay apart.
        reference: the values of the cell that these values are compared with, or None. It becomes a cell too, unless it
            is a point of the grid, and runs before all others.
        skip: why a cell cannot run, or None. The cell is then a row with this reason.
        emulated: why its precision is only emulated here, or None. Such a cell is not run either, unless --emulated
            asks for it; its times are then marked and compared with nothing.
        cost: how long a cell takes, in any unit; only ratios matter.
        optional: name -> neutral value of what a cell has only where an override names it, so that the ids of all other
            cells stay as they are.
        extra: measures that come with any of these names.
        refine: sets axes that depend on those that an override named.
        inexact: whether a value of an axis makes a cell compute something else than the neutral one, which a report
            marks.
        among: whether a reference of these values is a cell like the others, which reports show among them.
        grow: the suite with more cells, which the records so far (by setting) ask for; None when there are no more.
        conclude: sentences that answer the question from the records, before those of every report.
        predict: FLOPs, bytes and least seconds of a cell, or None where they cannot be known.
        alone: its cells measure little but times, so that one at a time runs on a machine, whatever devices it has.
        timeout: seconds that one of its cells may take, where the command does not say; None: the default of
            `bench.harness.cell_process`.
    """

    question: str
    workload: str
    axes: Mapping[str, tuple[Value, ...]]
    fixed: Mapping[str, Value]
    measures: Mapping[str, Measure]
    group: str
    headlines: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    allowed: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    least: Mapping[str, float | int] = field(default_factory=dict)
    settle: Callable[[dict[str, Value]], dict[str, Value]] = lambda values: values
    fill: Callable[[dict[str, Value]], dict[str, Value]] = lambda values: values
    reference: Callable[[Values], dict[str, Value] | None] = lambda _: None
    skip: Callable[[Values], str | None] = lambda _: None
    emulated: Callable[[Values], str | None] = lambda _: None
    cost: Callable[[Values], float] = lambda _: 1.0
    optional: Mapping[str, Value] = field(default_factory=dict)
    extra: Mapping[str, Measure] = field(default_factory=dict)
    refine: Callable[["Suite"], "Suite"] = lambda suite: suite
    inexact: Callable[[str, Value], bool] = lambda axis, value: False
    among: Callable[[Values], bool] = lambda _: False
    grow: Callable[["Suite", Sequence[Record]], "Suite | None"] = lambda suite, records: None
    conclude: Callable[["Suite", Sequence[Record]], Sequence[str]] = lambda suite, records: ()
    predict: Callable[[Values], Prediction | None] = lambda _: None
    alone: bool = False
    timeout: float | int | None = None

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits: the grid that was asked for."""
        axes = {name: list(values) for name, values in self.axes.items()}
        return digest({"workload": self.workload, "axes": axes, "fixed": dict(self.fixed)})


def override(suite: Suite, assignments: Sequence[str]) -> Suite:
    """The suite with some axes replaced: each assignment is "axis=value,value,...".

    Raises:
        ValueError: no such axis, or a value that the axis cannot have.
    """
    suite = _with_optional(suite, [each.partition("=")[0].strip() for each in assignments])
    axes, fixed = dict(suite.axes), dict(suite.fixed)
    named: set[str] = set()
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip()
        known = [*suite.axes, *suite.fixed, *suite.optional]
        if not equals:
            raise ValueError(
                f"an override is axis=value,value,...; got {assignment!r}: try {known[0]}={_spell(suite, known[0])}"
            )
        if name not in known:
            raise ValueError(f"there is no axis {name!r} in this suite{did_you_mean(name, known)}")
        if name in named:
            raise ValueError(f"{name} is set twice: give all its values at once, {name}=A,B")
        named.add(name)
        values = tuple(_parse(suite, name, part.strip()) for part in text.split(","))
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise ValueError(f"{name} has {twice} twice: name each value once")
        if name in fixed and len(values) == 1 and name not in suite.optional:
            fixed[name] = values[0]
        else:
            fixed.pop(name, None)
            axes[name] = values
    refined = suite.refine(replace(suite, axes=axes, fixed=fixed))
    cells = math.prod(map(len, refined.axes.values()))
    if cells > MOST_CELLS:
        raise ValueError(f"a plan has at most {MOST_CELLS:,} cells; got {cells:,}: give fewer values, or several runs")
    return refined


def _with_optional(suite: Suite, named: Sequence[str]) -> Suite:
    """The suite with the optional values that are named, at rest, and with the measures that come with them."""
    fixed = {name: value for name, value in suite.optional.items() if name in named}
    if not fixed:
        return suite
    return replace(suite, fixed={**suite.fixed, **fixed}, measures={**suite.measures, **suite.extra})


def references_of(suite: Suite, values: Values) -> list[dict[str, Value]]:
    """The values of the cell that these are compared with, of the one which that is compared with, and so on."""
    chain: list[dict[str, Value]] = []
    while (reference := suite.reference(values)) is not None and reference != values:
        chain.append(reference)
        values = reference
    return chain


def cells_of(suite: Suite, basis: Mapping[str, str]) -> dict[Cell, bool]:
    """The cells of a suite, references first, then the grid in its order -> whether it is a reference and no more."""
    grid: dict[Cell, bool] = {}
    references: dict[Cell, bool] = {}
    for values in _grid(suite):
        for reference in reversed(references_of(suite, values)):
            references[Cell(suite.workload, reference, basis)] = True
        grid[Cell(suite.workload, values, basis)] = False
    cells = references | {cell: False for cell in grid if cell not in references}
    return {cell: first and cell not in grid for cell, first in cells.items()}


def number_of_cells(suite: Suite) -> int:
    """How many cells a suite has, without asking any model."""
    return len(cells_of(replace(suite, fill=lambda values: values), {}))


def plan(suite: Suite, basis: Mapping[str, str]) -> list[PlannedCell]:
    """The cells of a suite, each with what it costs and, if it cannot run here, why."""
    return [
        PlannedCell(cell, reference, _why_not(suite, cell.values), suite.cost(cell.values))
        for cell, reference in cells_of(suite, basis).items()
    ]


def with_emulated(suite: Suite) -> Suite:
    """The suite with the cells whose precision is only emulated here."""
    return replace(suite, emulated=lambda _: None)


def is_emulated(suite: Suite, values: Values) -> bool:
    """Whether a cell of these values could run here, and is left out only because its precision is emulated."""
    return suite.skip(values) is None and suite.emulated(values) is not None


def _why_not(suite: Suite, values: Values) -> str | None:
    reason = suite.skip(values)
    if reason is None and (emulation := suite.emulated(values)) is not None:
        return f"{emulation}: its times would say nothing about it"
    return reason


def select(planned: Sequence[PlannedCell], suite: Suite, only: Sequence[str], skip: Sequence[str]) -> list[PlannedCell]:
    """The cells that `only` names and `skip` does not, with the references they need.

    A name is a cell's id or "axis=value"; in `only` two of one axis are either-or, and every named axis must hold.

    Raises:
        ValueError: a name fits no cell.
    """
    for name in [*only, *skip]:
        if not any(_fits(item.cell, name) for item in planned):
            raise ValueError(f"{name!r} fits no cell of the plan: give a cell's id or axis=value (see --dry-run)")

    def wanted(cell: Cell) -> bool:
        by_axis: dict[str, list[bool]] = {}
        for name in only:
            by_axis.setdefault(name.partition("=")[0] if "=" in name else "id", []).append(_fits(cell, name))
        return all(any(fits) for fits in by_axis.values()) and not any(_fits(cell, name) for name in skip)

    chosen = {item.cell.id for item in planned if not item.reference and wanted(item.cell)}
    needed = {
        Cell(item.cell.workload, reference, item.cell.basis).id
        for item in planned
        if item.cell.id in chosen
        for reference in references_of(suite, item.cell.values)
    }
    named = {item.cell.id for item in planned if item.reference and item.cell.id in only}
    return [item for item in planned if item.cell.id in chosen | needed | named]


def label(values: Values, axes: Sequence[str]) -> str:
    """What tells a cell from its neighbours: "vidrd frames=16 overlap=4 bf16"."""
    return " ".join(str(values[axis]) if isinstance(values[axis], str) else f"{axis}={values[axis]}" for axis in axes)


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """The end of a sentence that begins with an unknown name."""
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {close[0]!r}?" if close else f": there are {', '.join(known)}"


def _grid(suite: Suite) -> Iterator[dict[str, Value]]:
    for point in itertools.product(*suite.axes.values()):
        yield suite.fill(suite.settle({**suite.fixed, **dict(zip(suite.axes, point, strict=True))}))


def _fits(cell: Cell, name: str) -> bool:
    axis, equals, value = name.partition("=")
    return (axis in cell.values and str(cell.values[axis]) == value) if equals else cell.id == name


def _spell(suite: Suite, name: str) -> str:
    return ",".join(str(value) for value in suite.axes.get(name) or (suite.fixed[name],))


def _parse(suite: Suite, name: str, text: str) -> Value:
    allowed = suite.allowed.get(name)
    if allowed is not None:
        for value in allowed:
            if str(value) == text:
                return value
        raise ValueError(f"{name} cannot be {text!r}{did_you_mean(text, [str(value) for value in allowed])}")
    example = suite.fixed[name] if name in suite.fixed else suite.axes[name][0]
    if isinstance(example, str):
        return text
    try:
        number: int | float = int(text) if isinstance(example, int) else float(text)
    except ValueError:
        kind = "a whole number" if isinstance(example, int) else "a number"
        raise ValueError(f"{name} is {kind}; got {text!r}: try {name}={_spell(suite, name)}") from None
    least, most = suite.least.get(name, 0), MOST.get(name, MOST_OTHERWISE)
    if not (math.isfinite(number) and least <= number <= most):
        far = math.isfinite(number) and number > most
        rule = f"at most {most:,}" if far else f"at least {least}"
        raise ValueError(f"{name} is {rule}; got {text}: try {name}={_spell(suite, name)}")
    return number
