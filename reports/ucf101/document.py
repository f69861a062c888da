"""A document as data: headings, paragraphs, tables, lists and code. It becomes Markdown here, HTML in a template."""

import re
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
    """A paragraph of text; `lead` is its first words, which are emphasized, or ""."""

    lead: str
    text: str
    kind: str = "paragraph"


class Grid(NamedTuple):
    """A table, all cells text; `named` has the class of each row in the style sheet, or is empty."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    named: Sequence[str] = ()
    kind: str = "grid"


class Items(NamedTuple):
    """A list, one item per line."""

    lines: Sequence[str]
    kind: str = "items"


class Code(NamedTuple):
    """Commands for a terminal."""

    text: str
    kind: str = "code"


Block: TypeAlias = Heading | Paragraph | Grid | Items | Code


def as_markdown(blocks: Iterable[Block]) -> str:
    """The document as Markdown; its text is escaped, so nothing in it acts as Markdown or HTML."""
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
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))  # which nothing in it closes
            return f"{fence}sh\n{text}\n{fence}"
