"""A document as data: headings, paragraphs, tables, lists and code, to Markdown here and to HTML by a template."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from tabulate import tabulate

from reports.format import escape


class Heading(NamedTuple):
    """A heading of level 1 to 3."""

    level: int
    text: str
    kind: str = "heading"


class Paragraph(NamedTuple):
    """Text; what leads it stands out."""

    lead: str
    text: str
    kind: str = "paragraph"


class Grid(NamedTuple):
    """A table, all cells text; `named` is of each row what the style sheet may call it."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    named: Sequence[str] = ()
    kind: str = "grid"


class Items(NamedTuple):
    """A list."""

    lines: Sequence[str]
    kind: str = "items"


class Code(NamedTuple):
    """Words for a terminal."""

    text: str
    kind: str = "code"


Block: TypeAlias = Heading | Paragraph | Grid | Items | Code


def as_markdown(blocks: Iterable[Block]) -> str:
    """The document; nothing in its text is read as Markdown or HTML."""
    return "\n\n".join(filter(None, map(_block, blocks)))


def _block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {escape(text)}"
        case Paragraph(lead, text):
            return f"**{escape(lead)}**{escape(text)}" if lead else escape(text)
        case Grid(heads, rows):
            body = [[escape(text) for text in row] for row in rows]
            return tabulate(body, headers=[escape(head) for head in heads], tablefmt="pipe", disable_numparse=True)
        case Items(lines):
            return "\n".join(f"* {escape(line)}" for line in lines)
        case Code(text):
            return f"```sh\n{text}\n```"
