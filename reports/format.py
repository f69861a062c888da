"""Numbers and strings as text."""

import hashlib
import math
import re
from collections.abc import Iterable, Sequence

MISSING = "–"
BETTER = {"lower": "lower is better", "higher": "higher is better", "real": "best at real video's value"}

# Smaller intervals, relative to numbers above 1, are rounding errors, and so are smaller numbers with them.
ROUNDING = 1e-12


def number(value: float, unit: str, half: float | None = None) -> str:
    """Three digits, or as many as half the width of the interval justifies: "12.3 ±1.4". Bytes become MiB."""
    if unit == "bytes":
        value, half = value / 2**20, None if half is None else half / 2**20
    if half is not None and half < ROUNDING * max(1, abs(value)):
        value, half = 0.0 if abs(value) < ROUNDING else value, None
    if half:
        places = max(0, 1 - math.floor(math.log10(half)))
        return f"{value:.{places}f} ±{half:.{places}f}"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def numeric(values: Iterable[object]) -> bool:
    """Whether all values are numbers; True and False are not."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def plain_list(items: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def escape(text: str) -> str:
    """The text with Markdown and HTML escaped, on one line."""
    plain = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{sign}" if sign in "\\|`*_[]#~" else sign for sign in plain)


def file_name(text: str) -> str:
    """The text as the name of a file in any folder: with a hash where it holds more than letters, digits, "-_=." ."""
    plain = re.sub(r"[^A-Za-z0-9_=.-]+", "-", text).strip(".-")[:80]
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]}"


def printable(text: str) -> str:
    """The text with line ends and control characters, which would move a terminal's cursor, replaced by spaces."""
    return "".join(sign if sign.isprintable() else " " for sign in text)
