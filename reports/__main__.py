"""`python -m reports RUN-FOLDER [--out FOLDER]`: tables in the terminal; Markdown, CSV and contact sheets in files."""

import sys
from pathlib import Path
from typing import Annotated

import tyro

from bench.record import write_atomic
from reports.markdown import as_markdown, as_text
from reports.sheet import sheets
from reports.table import load, rows

USAGE = 3


def report(run_folder: Annotated[Path, tyro.conf.Positional], out: Path | None = None) -> int:
    """Print the tables of a run, and write the report if a folder is given.

    Args:
        run_folder: For example runs/pocket.
        out: Gets report.md, cells.csv and the contact sheets; made if its parent is there.
    """
    run = load(run_folder)
    table = rows(run)
    print(as_text(run, table))
    if out is not None:
        if not out.absolute().parent.is_dir():
            raise ValueError(f"--out {out}: the folder {out.parent} does not exist, make it first")
        out.mkdir(exist_ok=True)
        pictures = sheets(run)
        for name, picture in pictures.items():
            beside = out / f".{name}.part"
            picture.save(beside, format="PNG")
            beside.replace(out / name)
        write_atomic(out / "cells.csv", table.to_csv(index=False))
        write_atomic(out / "report.md", as_markdown(run, table, list(pictures)))
        print("\nwritten: " + ", ".join(str(out / name) for name in ("report.md", "cells.csv", *pictures)))
        print(f"raw records: {run_folder / 'records.jsonl'}")
    return 0


def main() -> int:
    """Parse, do, and turn a user's mistake into one line and exit code 3."""
    try:
        return tyro.cli(report, prog="python -m reports", description=__doc__)
    except ValueError as error:
        print(f"reports: {error}", file=sys.stderr)
        return USAGE
    except SystemExit as stop:
        return USAGE if stop.code == 2 else int(stop.code or 0)


if __name__ == "__main__":
    sys.exit(main())
