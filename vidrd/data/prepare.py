"""Build a data set: records of a known format through decoding, cutting, captioning and filters into shards.

The work is cut into units of some records (vidrd/data/shard_task.py), which an engine carries out
(vidrd/data/workers.py). What comes out depends on the plan alone: not on workers, their number, or who was killed.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from vidrd.data.adapters import records
from vidrd.data.captions import Template
from vidrd.data.duplicates import Reference, near_duplicates
from vidrd.data.generic_adapters import folder
from vidrd.data.layout import Where, parse_json
from vidrd.data.media import THUMB, UnreadableError, decode, to_rgb
from vidrd.data.numbering import NUMBERS, number_records
from vidrd.data.record import Drop, Record, Tally
from vidrd.data.shard_task import FREE, PreparePlan, clips_of, is_done
from vidrd.data.shards import INDEX, SCHEMA, publish, remove_stale, write_table
from vidrd.data.watermarks import Overlay
from vidrd.data.workers import carry_out
from vidrd.files import locked, write_atomic

EVERY = 2  # frames of a reference clip from one hash to the next; docs/data.md says what this finds


class Summary(NamedTuple):
    """Counts and times of a run."""

    tally: Tally
    clips: int  # in the index
    seconds: float  # of this call
    done_before: int  # units


def prepare(
    plan: PreparePlan,
    out: Path,
    *,
    workers: int = 1,
    engine: Literal["local", "ray"] = "local",
    say: Callable[[str], None] = print,
) -> Summary:
    """Build the data set in `out`, or finish building it.

    Raises:
        ValueError: the plan cannot be carried out, another run is writing into `out`, or it holds the data set of
            another plan.
    """
    began = perf_counter()
    _check(plan, out)
    coming = records(plan.format, plan.where)
    first = next(coming, None)
    if first is None:
        raise ValueError(f"{plan.where.root} holds no {plan.format} records: check --root, --annotations and --split")
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):  # by this process alone: its workers write units for it, wherever they run
        _claim(out, plan)
        units, numbers = number_records(out, chain([first], coming), plan.unit)
        write_table(out / NUMBERS, numbers)
        waiting = [unit for unit in units if not is_done(plan, out, unit)]
        before = len(units) - len(waiting)
        say(f"{len(units)} units of up to {plan.unit} records, {before} of them done before")
        carry_out(plan, out, waiting, workers, say, ray=engine == "ray")
        summary = finish(plan, out, [unit.number for unit in units])
    return Summary(summary.tally, summary.clips, perf_counter() - began, before)


def finish(plan: PreparePlan, out: Path, numbers: Sequence[int]) -> Summary:
    """Join the rows of all tasks, without clips that are there twice or are in a set named by `against`."""
    tally, drops, tables = Tally(), list[Mapping[str, str]](), list[pa.Table]()
    for number in numbers:
        done = json.loads((out / "units" / f"{number:06d}.json").read_text())
        tally.add(Tally(**done["tally"]))
        drops += done["drops"]
        tables.append(pq.read_table(out / "units" / f"{number:06d}.parquet", schema=SCHEMA))
    began = thread_time()
    table = pa.concat_tables(tables)
    keys = table.column("key").to_pylist()
    repeats = find_repeats(
        keys, table.column("sha256").to_pylist(), table.column("hashes").to_pylist(), plan.duplicates, plan.against
    )
    for key in keys:
        tally.enter("duplicates")
        outcome = repeats.get(key, Record(key, "", "", ""))
        tally.leave("duplicates", outcome)
        if isinstance(outcome, Drop):
            drops.append(asdict(outcome))
    tally.spend("duplicates", thread_time() - began)
    tally.check()
    shown = [
        publish(out, number, rows, repeats.keys(), clips_of(out, number))
        for number, rows in zip(numbers, tables, strict=True)
    ]
    remove_stale(out, numbers)
    write_table(out / INDEX, pa.concat_tables(shown))
    write_atomic(out / "drops.jsonl", "".join(json.dumps(drop) + "\n" for drop in drops))
    clips = len(keys) - len(repeats)
    write_atomic(out / "summary.json", json.dumps({"clips": clips, **asdict(tally)}, indent=1) + "\n")
    return Summary(tally, clips, 0.0, 0)


def find_repeats(
    keys: Sequence[str],
    bytes_of: Sequence[str],
    hashes_of: Sequence[Sequence[int] | None],
    duplicates: int,  # bits within which two clips are one; -1: do not look
    against: Sequence[Path],  # folders of videos that must not be in the set
) -> dict[str, Drop]:
    """The repeated clips by key, each with its reason."""
    drops: dict[str, Drop] = {}
    by_bytes: dict[str, str] = {}
    hashes = {key: values for key, values in zip(keys, hashes_of, strict=True) if values}
    for key, sha256 in zip(keys, bytes_of, strict=True):
        first = by_bytes.setdefault(sha256, key)
        if first != key:
            drops[key] = Drop(key, "duplicate", f"same bytes as {first}")
    if duplicates >= 0:
        for key, earlier in near_duplicates(hashes, most=duplicates).items():
            drops.setdefault(key, Drop(key, "duplicate", f"looks like {earlier}"))
    if against:
        reference = read_reference(against)
        for key, values in hashes.items():
            held = reference.find(values)
            if held:
                drops.setdefault(key, Drop(key, "in a test set", held))
    return drops


def read_reference(folders: Sequence[Path]) -> Reference:
    """Frame hashes of all videos in some folders."""
    reference = Reference()
    for place in folders:
        for record in folder(Where(place)):
            if isinstance(record, Drop):
                continue
            try:
                frames = islice(decode(Path(record.uri)), None, None, EVERY)
                reference.add(record.uri, (to_rgb(frame, THUMB) for frame in frames))
            except UnreadableError:
                continue  # an unreadable file cannot be recognized; the count of hashes shows it
    if not len(reference):
        raise ValueError(f"no video in {', '.join(map(str, folders))} can be read: nothing to compare the set with")
    return reference


def _check(plan: PreparePlan, out: Path) -> None:
    """Raise ValueError for what would otherwise be found wrong only after files were written."""
    if plan.captioner != Template.name:
        from vidrd.data.captioners import check_captioner  # noqa: PLC0415 - torch, which templates do not need

        check_captioner(plan.captioner, plan.caption_model, plan.endpoint)
    if plan.overlay is not None:
        Overlay.load(plan.overlay)
    if out.resolve() == plan.where.root.resolve():
        raise ValueError(f"a data set has a folder of its own: got {out} for --root and --out")
    for place in plan.against:
        if not place.is_dir():
            raise ValueError(f"--against names folders of videos: {place} is none")


def _is_stale(out: Path, plan: PreparePlan) -> bool:
    """Whether `out` was begun by another plan of which nothing was done. What only the end depends on may change.

    Raises:
        ValueError: it holds the data set of another plan.
    """
    path = out / "plan.json"
    if not path.is_file():
        return False
    held = parse_json(path.read_bytes(), str(path))
    if "format" not in held:
        raise ValueError(f"{out} holds a data set that `prepare` did not make: name a new folder")
    usual = _flat(json.loads(_written(PreparePlan(plan.format, plan.where))))  # of a plan from before a choice existed
    there, now = usual | _flat(held), _flat(json.loads(_written(plan)))
    other = {name: f"{there[name]!r} there, now {now[name]!r}" for name in now if now[name] != there[name]}
    if other and any((out / "units").glob("*.json")):
        raise ValueError(
            f"{out} holds the data set of another plan, of other {', '.join(other)} "
            f"({'; '.join(other.values())}): name a new folder, or ask for the same"
        )
    return bool(other)


def _written(plan: PreparePlan) -> str:
    return json.dumps(asdict(plan), indent=1, default=str) + "\n"


def _flat(plan: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """The parts of a plan that decide its content, by names like "where.root"."""
    flat: dict[str, Any] = {}
    for name, value in plan.items():
        if above + name in FREE or above + name == "asking.parallel":
            continue
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {above + name: value}
    return flat


def _claim(out: Path, plan: PreparePlan) -> None:
    """Make the folders and write plan.json; remove what killed workers and a plan that gives way left."""
    if _is_stale(out, plan):
        (out / NUMBERS).unlink(missing_ok=True)
    (out / "units").mkdir(parents=True, exist_ok=True)
    (out / "shards").mkdir(exist_ok=True)
    write_atomic(out / "plan.json", _written(plan))
    for leftover in [*out.glob(".*.part"), *out.glob("shards/.*.part"), *out.glob("units/.*.part")]:
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def describe(summary: Summary) -> str:
    """A table of the records that entered and left each step, the reasons of drops, and CPU seconds."""
    tally = summary.tally
    steps = list(dict.fromkeys(["read", "decode", "cut", *tally.came, *tally.cpu_seconds]))
    lines = [f"{'step':<11}{'came':>8}{'went on':>9}{'CPU s':>9}  dropped"]
    for step in steps:
        reasons = ", ".join(f"{count} {reason}" for reason, count in tally.dropped.get(step, {}).items())
        counts = f"{tally.came[step]:>8}{tally.went.get(step, 0):>9}" if step in tally.came else " " * 17
        lines.append(f"{step:<11}{counts}{tally.cpu_seconds.get(step, 0.0):>9.2f}  {reasons}")
    rate = summary.clips / summary.seconds if summary.seconds else 0.0
    lines.append(f"{summary.clips} clips in the index; {summary.seconds:.1f} s, {rate:.2f} clips/s")
    return "\n".join(lines)
