"""Published UCF-101 scores. They are compared with measured rows only on the UCF-101 page, never with pocket numbers.

`published.csv` has what others reported on UCF-101: every row with its source, how certain the reading is, and what is
known of its protocol.
"""

import csv
from functools import cache
from pathlib import Path

TABLE = Path(__file__).parent / "published.csv"
CONFIDENCE = {
    "primary": "read in the authors' own text, table or site",
    "secondary": "read in another paper's table",
    "conflict": "printed differently in different places; the note says where",
    "unverified": "not checked against a text",
}
FINE_PRINT = (
    "(assumed), (inferred): not stated where the row was read; the value that fits its numbers and the usual networks",
    "an empty cell: not stated where the row was read",
)


@cache
def published_rows() -> tuple[dict[str, str], ...]:
    """The rows as text, as they were printed: column -> value."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))
