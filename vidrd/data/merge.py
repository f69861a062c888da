"""Join data sets without encoding anything anew: clips keep their bytes, and rows all that they say."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from vidrd.data.prepare import find_repeats
from vidrd.data.shards import INDEX, ShardSet, publish, remove_stale, write_table
from vidrd.files import locked, write_atomic


def merge(
    sets: Sequence[Path],
    out: Path,
    *,
    duplicates: int = 11,  # bits of 192 within which two clips are one; -1: only if their bytes are equal
    against: Sequence[Path] = (),  # folders of videos that must not be in the set
    say: Callable[[str], None] = print,
) -> tuple[int, int]:
    """Write the joined set into `out`, or bring it up to date; the numbers of its clips and of those left out.

    Of clips that are there twice that of the first set stays. A key that an earlier set has too gets its set's number.

    Raises:
        ValueError: there are fewer than two sets, one is no data set, or `out` holds another one or is in use.
    """
    opened = _open(sets, out)
    plan = json.dumps({"merged": [str(folder.resolve()) for folder in sets], "duplicates": duplicates}, indent=1) + "\n"
    path = out / "plan.json"
    if (path.is_file() and path.read_text() != plan) or (not path.is_file() and (out / INDEX).is_file()):
        raise ValueError(f"{out} holds another data set: name a new folder")
    names = _new_keys(opened)
    keys = [names[number][key] for number, each in enumerate(opened) for key in each.columns("key")[0]]
    columns = [each.columns("sha256", "hashes") for each in opened]
    bytes_of, hashes_of = ([value for column in columns for value in column[place]] for place in (0, 1))
    drops = find_repeats(keys, bytes_of, hashes_of, duplicates, against)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        (out / "shards").mkdir(exist_ok=True)
        write_atomic(path, plan)
        joined: list[pa.Table] = []
        for number, each in enumerate(opened):
            for shard in sorted(set(each.columns("shard")[0])):
                rows = each.table.filter(pc.equal(each.table.column("shard"), shard))
                own = rows.column("key").to_pylist()
                renamed = {key: names[number][key] for key in own if names[number][key] != key}
                left_out = {key for key in own if names[number][key] in drops}
                joined.append(publish(out, len(joined), rows, left_out, each.folder / shard, renamed))
            say(f"{each.folder}: {len(each)} clips")
        remove_stale(out, range(len(joined)))
        write_atomic(out / "drops.jsonl", "".join(json.dumps(asdict(drop)) + "\n" for drop in drops.values()))
        write_table(out / INDEX, pa.concat_tables(joined))
    return len(keys) - len(drops), len(drops)


def _open(sets: Sequence[Path], out: Path) -> list[ShardSet]:
    places = [folder.resolve() for folder in sets]
    if len(set(places)) < 2 or len(set(places)) < len(places):
        raise ValueError(f"two or more different data sets are joined: got {', '.join(map(str, sets)) or 'none'}")
    if out.resolve() in places:
        raise ValueError(f"{out} is one of the sets: name a new folder")
    return [ShardSet(folder) for folder in sets]


def _new_keys(sets: Sequence[ShardSet]) -> list[dict[str, str]]:
    """The key of each clip in the joined set, by set and key there."""
    taken: set[str] = set()
    names: list[dict[str, str]] = []
    for number, each in enumerate(sets):
        own = each.columns("key")[0]
        among = taken | set(own)
        names.append({key: _free(f"set{number}_{key}", among) if key in taken else key for key in own})
        taken |= set(names[-1].values())
    return names


def _free(key: str, taken: set[str]) -> str:
    while key in taken:
        key = f"{key}_"
    return key
