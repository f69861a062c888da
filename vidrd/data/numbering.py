"""Numbers of records that last: a file that is added to a source takes a new number, and no other loses its own.

A record's number decides its unit. Without this one new file that sorts first would move all others into other units,
and all of them would be carried out again.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vidrd.data.record import Drop, Record, digest
from vidrd.data.shard_task import ShardTask

NUMBERS = "numbers.parquet"  # which record has which number, in the data set's folder


def number_records(out: Path, coming: Iterable[Record | Drop], size: int) -> tuple[list[ShardTask], pa.Table]:
    """Records in units of `size` numbers, and the table of all numbers, old and new.

    Records that `out` has numbered before keep their numbers, others take the next ones in their order.
    """
    known = _known(out)
    names: Counter[str] = Counter()
    units: dict[int, list[tuple[int, Record | Drop]]] = {}
    following = max(known.values(), default=-1) + 1
    for record in coming:
        name = _identity(record)
        names[name] += 1
        number = known.setdefault(f"{name}{names[name]:x}", following)  # a list may name a record twice
        following = max(following, number + 1)
        key = f"{number:08d}_{record.key.partition('_')[2]}"
        units.setdefault(number // size, []).append((number, replace(record, key=key)))
    tasks = [
        ShardTask(unit, tuple(record for _, record in sorted(some, key=lambda pair: pair[0])))
        for unit, some in sorted(units.items())
    ]
    return tasks, pa.table({"record": list(known), "number": pa.array(list(known.values()), pa.int64())})


def _known(out: Path) -> dict[str, int]:
    path = out / NUMBERS
    if not path.is_file():
        return {}
    try:
        table = pq.read_table(path)
        return dict(zip(table.column("record").to_pylist(), table.column("number").to_pylist(), strict=True))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(f"{path} cannot be read: name a new folder, or delete it to number all anew") from error


def _identity(record: Record | Drop) -> str:
    """What a record is whatever else its source holds: where it lies, or what is wrong with it."""
    if isinstance(record, Drop):
        return digest({name: value for name, value in asdict(record).items() if name != "key"})
    return digest(record.source, record.uri, record.seconds)
