"""`python -m reports.session_page FOLDER`: one page of all that a GPU session left, also of an unfinished one."""

import json
import statistics
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from bench.results.records import short_revision, write_atomic
from reports.cli import run_command
from reports.format import printable
from reports.html_templates import render
from reports.run_table import load, rows
from reports.summary import sentences
from reports.text_tables import MARKED, tables

Block = dict[str, Any]  # of the template document.html


def session_page(folder: Annotated[Path, tyro.conf.Positional]) -> int:
    """Write FOLDER/report.html.

    Args:
        folder: What `python -m bench.studies.gpu_session` left.
    """
    if not (folder / "about.json").is_file():
        raise ValueError(f"a session leaves an about.json: got {folder}")
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    machine, dry = about["machine"], about["dry"]
    ended = [[name, part["state"], printable(part["text"])] for name, part in about["parts"].items()]
    software = [[name, str(value)] for name, value in {**machine, **about["software"]}.items()]
    sections = [
        {"name": "parts", "blocks": [_grid(["part", "state", ""], ended)]},
        *({"name": name, "blocks": blocks} for name in about["parts"] if (blocks := _blocks(folder, name))),
        {"name": "machine", "blocks": [_grid(["machine and software", ""], software)]},
    ]
    html = render(
        "session.html",
        ("base",),
        title="A dry session on a CPU: no number means anything" if dry else f"Measured on {machine['gpu']}",
        badges=[f"revision {short_revision(about['revision'])}", str(about["written"])[:10]],
        sections=sections,
    )
    write_atomic(folder / "report.html", html)
    print(f"page: {folder / 'report.html'}")
    return 0


def _blocks(folder: Path, name: str) -> list[Block]:
    """What a part left: the tables of a run, or a list of records."""
    if (folder / name / "manifest.json").is_file():
        return _run(folder / name)
    path = folder / f"{name}.json"
    if not path.is_file():
        return []
    records = json.loads(path.read_text(encoding="utf-8"))
    return [_grid(["", *(str(number + 1) for number in range(len(records)))],
                  [[key, *(_text(each[key]) for each in records)] for key in records[0]])]  # fmt: skip


def _run(folder: Path) -> list[Block]:
    run = load(folder)
    table = rows(run)
    blocks: list[Block] = [{"kind": "items", "lines": [printable(sentence) for sentence in sentences(run, table)]}]
    for each in tables(run, table):
        if each.named == len(each.columns) and not each.notes:
            continue
        body = [[printable(text) + " *" * ((i, j) in each.marked) for j, text in enumerate(line)]
                for i, line in enumerate(each.rows)]  # fmt: skip
        blocks += [{"kind": "heading", "level": 1, "text": printable(each.title)}, _grid(each.columns, body)]
        blocks.append({"kind": "items", "lines": [printable(str(note)) for note in each.notes]})
    return [*blocks, {"kind": "paragraph", "lead": "*", "text": f" {MARKED}"}]


def _grid(heads: list[str], body: list[list[str]]) -> Block:
    return {"kind": "grid", "heads": heads, "rows": body, "named": None}


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"{statistics.median(value):.4g} (median of {len(value)})"
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def main() -> int:
    """Run the command; returns its exit code."""
    return run_command(session_page, "python -m reports.session_page", __doc__)


if __name__ == "__main__":
    sys.exit(main())
