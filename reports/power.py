"""What a number of videos can tell, from a pilot run: `python -m reports.power runs/pocket --videos 12 24 48`.

For each headline, the smallest difference between two rows that would be told apart from none at the 95 % level, with
all claims of that headline judged together. Half of the pairs of rows in the run need less. Errors are taken to shrink
with the root of the number of videos; those of times and memory that one process has and the next has not do not.
"""

import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro
from tabulate import tabulate

from reports.cli import run_command
from reports.format import number
from reports.multiple_comparisons import Difference, claim, detectable, differences
from reports.run_table import REFERENCE, Run, load, reported, rows


def report(
    run_folder: Annotated[Path, tyro.conf.Positional],
    videos: tuple[int, ...] = (12, 24, 48, 96),
) -> int:
    """Print what numbers of videos can tell, by headline.

    Args:
        run_folder: The pilot, for example runs/pocket.
        videos: Of each cell; times have as many batches in proportion.
    """
    run = load(run_folder)
    if not videos or min(videos) < 2:
        raise ValueError(
            f"--videos are counts from 2 upwards: got {' '.join(map(str, videos)) or 'none'}, try 12 24 48"
        )
    table = power(run, rows(run), videos)
    headers = ("headline", *(f"{count} videos" for count in videos), "largest in this run")
    print(tabulate(table, headers=headers, tablefmt="github", disable_numparse=True))
    return 0


def power(run: Run, table: pd.DataFrame, videos: Sequence[int]) -> list[list[str]]:
    """A line for each headline: its title, what each number of videos tells, and the largest difference of the run.

    Raises:
        ValueError: no two rows of the run compare.
    """
    measures = reported(run, table)
    every = [each for each in differences(run, table, measures) if each.other != REFERENCE]
    if not every:
        raise ValueError(f"{run.folder}: no two cells of it have numbers with intervals that compare")
    lines = []
    for measure in measures:
        part = [each for each in every if each.measure == measure and each.estimate.error > 0]
        if part:
            claims = len({claim(each) for each in part})
            reach = [statistics.median(detectable(each, _share(run, each, n), claims) for each in part) for n in videos]
            largest = max(abs(each.estimate.mean) for each in part)
            lines.append([run.title(measure), *(_text(part[0], value) for value in (*reach, largest))])
    return lines


def _share(run: Run, difference: Difference, videos: int) -> float:
    return videos / int(run.manifest["fixed"].get("videos", difference.size))


def _text(difference: Difference, value: float) -> str:
    """The value in the measure's own unit, or by how many per cent a ratio differs from one."""
    return f"{100 * math.expm1(value):.0f} %" if difference.ratio else number(value, "", value / 10).partition(" ±")[0]


def main() -> int:
    """Parse and print."""
    return run_command(report, "python -m reports.power", __doc__)


if __name__ == "__main__":
    sys.exit(main())
