"""Margins of single measures and cells, from a TOML file in the user's repository.

speed = 0.03                 # of every cell; a share, for quality as `--detect` takes it
flops = 0.0

[cells."vidrd fp32"]         # of this cell, by its label
speed = 0.01
"""

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple


class Thresholds(NamedTuple):
    """Margins: measure -> share, for every cell and for single ones."""

    common: Mapping[str, float | int]
    cells: Mapping[str, Mapping[str, float | int]]

    def of(self, cell: str) -> dict[str, float | int]:
        """The margins of a cell; a measure that is not in it has the gate's own."""
        return {**self.common, **self.cells.get(cell, {})}


def load(path: Path, measures: Collection[str], cells: Collection[str]) -> Thresholds:
    """Read a file.

    Raises:
        ValueError: it is no TOML, or names a measure or cell that the gate does not judge, or a margin is no share.
    """
    if not path.is_file():  # a pipe that nobody writes would be waited for
        raise ValueError(f"thresholds are a TOML file; got {path}, which is no file")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"thresholds are a TOML file; got {path}: {error}") from None
    single = content.pop("cells", {})
    if not isinstance(single, dict) or not all(isinstance(table, dict) for table in single.values()):
        raise ValueError(f'{path}: cells are tables; got cells = {single!r}: write [cells."LABEL"]')
    unknown = sorted(single.keys() - set(cells))
    if unknown:
        raise ValueError(f"{path}: a cell is one of {', '.join(cells)}; got {unknown[0]!r}")
    for where, table in (("", content), *((f"cells.{name}.", table) for name, table in single.items())):
        for name, margin in table.items():
            if name not in measures:
                raise ValueError(f"{path}: a measure is one of {', '.join(measures)}; got {where}{name}")
            if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 <= margin <= 10:
                raise ValueError(
                    f"{path}: a margin is a share from 0 to 10, 0.03 is 3 %; got {where}{name} = {margin!r}"
                )
            if name in ("fvd", "caption") and margin == 0:
                raise ValueError(f"{path}: a margin of quality is above 0; got {where}{name} = 0")
    return Thresholds(content, single)
