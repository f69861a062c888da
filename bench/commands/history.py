"""`python -m bench history`: what many gates show together."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import tyro

from bench.results.creep import creep
from bench.results.history import load, segments
from bench.results.option_types import TargetFile
from bench.results.verdicts import EXIT_CODES, WORST, Verdict

JOURNAL = Path("runs") / "gate" / "history.jsonl"


def history(journal: Annotated[Path, tyro.conf.Positional] = JOURNAL, page: TargetFile | None = None) -> int:
    """Did many small changes add up? The ratios of all gates are combined along the chain of revisions.

    Exit codes: 0 no creep was found, 1 a rise above the margin is shown, 3 wrong usage, 4 a rise may be above it, or
    there is no chain yet.

    Args:
        journal: The file that gates append to.
        page: Also draw the chains on a page (HTML).
    """
    chains, _ = segments(load(journal)[0])
    found = {rise.verdict if (rise := creep(chain)) else "PASS" for chain in chains}
    verdict: Verdict = next((each for each in WORST if each in found), "CALIBRATION_NEEDED")
    return draw(journal, page) or EXIT_CODES[verdict]


def draw(journal: Path, page: Path | None) -> int:
    """Print what a journal shows and draw it, in a process that loads no torch."""
    command = [sys.executable, "-m", "reports.history_page", str(journal), *(["--page", str(page)] if page else [])]
    return subprocess.run(command, check=False).returncode
