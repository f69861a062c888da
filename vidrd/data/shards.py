"""Data sets on disk: tars of `{key}.mp4` (or .jpg) and `{key}.json`, and one Parquet index that knows where each is.

Any reader of webdataset tars can stream the tars; this project reads single clips through the index, in any order.
"""

import filecmp
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import UInt8
from numpy import ndarray

from vidrd.data.media import read_image, read_mp4
from vidrd.data.record import Record
from vidrd.files import link_or_copy, replacing

INDEX = "index.parquet"
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("shard", pa.string()),  # path of the tar, from the data set's folder
        ("offset", pa.int64()),  # of the clip's first byte in the tar
        ("length", pa.int64()),  # bytes
        ("media", pa.string()),  # video | image
        ("frames", pa.int32()),
        ("fps", pa.float64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("captions", pa.list_(pa.string())),
        ("caption_by", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("split", pa.string()),
        ("uri", pa.string()),
        ("start", pa.int32()),  # frames of the source, in decode order
        ("end", pa.int32()),
        ("hashes", pa.list_(pa.uint64())),  # of three frames; none for flat ones
        ("motion", pa.float32()),  # mean change from frame to frame, gray levels
        ("watermark", pa.float32()),  # share of the frame that a mark covers; none where it was not looked for
        ("facts", pa.string()),  # JSON of everything else
        ("sha256", pa.string()),  # of the clip's bytes
        ("stages", pa.string()),  # name@version of all that it went through
    ]
)
_COLUMNS = ("hashes", "motion", "watermark")


class ShardWriter:
    """Writes one tar; the same records give the same bytes."""

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name  # where to write, and what the index calls it
        self.rows: list[dict[str, Any]] = []
        self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 - closed by `close`

    def add(self, record: Record, data: bytes, sha256: str, stages: str) -> None:
        """Append a clip and its description."""
        pixels = record.seen()
        about = {name: value for name, value in record.to_json().items() if name not in ("facts", "pixels", "media")}
        facts = {name: value for name, value in record.facts.items() if name not in _COLUMNS}
        row = {
            **about,
            **{name: record.facts.get(name) for name in _COLUMNS},
            "captions": list(record.captions),
            "labels": list(record.labels),
            "end": record.start + len(pixels.frames) if record.end is None else record.end,
            "media": record.media,
            "frames": len(pixels.frames),
            "fps": pixels.fps,
            "width": pixels.frames[0].width,
            "height": pixels.frames[0].height,
            "facts": json.dumps(facts),
            "sha256": sha256,
            "stages": stages,
        }
        ending = "mp4" if record.media == "video" else "jpg"
        offset = self._put(f"{record.key}.{ending}", data)
        sidecar = {**row, "facts": facts, "caption": record.captions[0] if record.captions else ""}
        self._put(f"{record.key}.json", json.dumps(sidecar, default=str).encode())
        self.rows.append(row | {"shard": self.name, "offset": offset, "length": len(data)})

    def close(self) -> None:
        """Finish the tar."""
        self._tar.close()

    def _put(self, name: str, data: bytes) -> int:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))
        return self._tar.offset - -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write index rows atomically, as Parquet with the columns of SCHEMA."""
    write_table(path, pa.Table.from_pylist(list(rows), schema=SCHEMA))


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table atomically, as Parquet."""
    with replacing(path) as part:
        pq.write_table(table, part)


def publish(
    out: Path,
    number: int,
    rows: pa.Table,
    left_out: Collection[str],
    source: Path,
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> pa.Table:
    """Make the clips of a tar a shard, without those left out; returns the rows of those that are in it.

    A shard that leaves nothing out and renames nothing is another name of the tar where the file system has such.

    Args:
        out: folder of the data set.
        number: of the shard.
        rows: of the clips in the tar.
        left_out: keys.
        source: the tar.
        renamed: new keys by old ones.

    Raises:
        ValueError: the tar is cut short.
    """
    shard = out / "shards" / f"{number:06d}.tar"
    cut_short = f"{source} is cut short: restore it, or prepare its unit again"
    if source.stat().st_size < max(pc.add(rows.column("offset"), rows.column("length")).to_pylist(), default=0):
        raise ValueError(cut_short)
    keys = rows.column("key").to_pylist()
    kept = [key for key in keys if key not in left_out]
    rows = rows.filter(pa.array([key not in left_out for key in keys], pa.bool_()))
    if not kept:
        _hide(out, shard)
        return rows
    rows = _with_column(rows, "shard", [f"shards/{shard.name}"] * len(kept))
    if len(kept) == len(keys) and not renamed:
        if not _equal(source, shard):
            _hide(out, shard)
            link_or_copy(source, shard)
        return rows
    with tempfile.TemporaryDirectory(prefix=".", suffix=".part", dir=out) as folder:
        part = Path(folder) / "part"
        try:
            offsets = _copy_clips(source, part, set(kept), renamed)
        except tarfile.TarError:
            raise ValueError(cut_short) from None
        if not _equal(part, shard):
            _hide(out, shard)
            with replacing(shard) as target:
                part.replace(target)
    rows = _with_column(rows, "offset", [offsets[key] for key in kept])
    return _with_column(rows, "key", [renamed.get(key, key) for key in kept])


def _with_column(rows: pa.Table, name: str, values: Sequence[Any]) -> pa.Table:
    field = SCHEMA.field(name)
    return rows.set_column(rows.schema.get_field_index(name), field, pa.array(values, field.type))


def remove_stale(out: Path, numbers: Sequence[int]) -> None:
    """Remove shards of tasks that there are no more."""
    wanted = {f"{number:06d}.tar" for number in numbers}
    for shard in (out / "shards").glob("*.tar"):
        if shard.name not in wanted:
            _hide(out, shard)


def _hide(out: Path, shard: Path) -> None:
    """Remove a shard, and before it the index, which would describe another one until it is written anew."""
    if shard.exists():
        (out / INDEX).unlink(missing_ok=True)
        shard.unlink()


def _equal(a: Path, b: Path) -> bool:
    return b.is_file() and (os.path.samefile(a, b) or filecmp.cmp(a, b, shallow=False))


def _copy_clips(source: Path, target: Path, kept: Collection[str], renamed: Mapping[str, str]) -> dict[str, int]:
    """Copy the members of some keys, under new ones if they have such; returns the offset of each clip, by old key."""
    offsets = {}
    with tarfile.open(source, "r:") as old, tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as new:
        for info in old:
            key, _, ending = info.name.partition(".")
            if key in kept:
                file = old.extractfile(info)
                if key in renamed:
                    info.name = f"{renamed[key]}.{ending}"
                if key in renamed and ending == "json":
                    about = json.dumps({**json.load(file or io.BytesIO()), "key": renamed[key]}).encode()
                    file, info.size = io.BytesIO(about), len(about)
                new.addfile(info, file)
                if ending != "json":
                    offsets[key] = new.offset - -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return offsets


class ShardSet:
    """A data set that `prepare` wrote; rows are read independently, in any order, by any process."""

    def __init__(self, folder: Path):
        self.folder = folder
        if not (folder / INDEX).is_file():
            raise ValueError(f"{folder} is no data set: it has no {INDEX}; make it with `python -m vidrd prepare`")
        try:
            self.table = pq.read_table(folder / INDEX, schema=SCHEMA)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"{folder / INDEX} cannot be read: run `python -m vidrd prepare` again ({error})"
            ) from error
        self._files: dict[str, int] = {}

    def __len__(self) -> int:
        return self.table.num_rows

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}  # open files do not travel to workers

    @cached_property
    def frames(self) -> ndarray:
        """Frames of each row."""
        return self.table.column("frames").to_numpy()

    def captions(self, row: int) -> list[str]:
        """All captions of a row."""
        return self.table.column("captions")[row].as_py()

    def columns(self, *names: str) -> list[list[Any]]:
        """Whole columns of the index."""
        return [self.table.column(name).to_pylist() for name in names]

    def row(self, row: int) -> dict[str, Any]:
        """All columns of a row."""
        return self.table.slice(row, 1).to_pylist()[0]

    def data(self, row: int) -> bytes:
        """The clip's file."""
        shard = self.table.column("shard")[row].as_py()
        if shard not in self._files:
            self._files[shard] = os.open(self.folder / shard, os.O_RDONLY)
        offset, length = self.table.column("offset")[row].as_py(), self.table.column("length")[row].as_py()
        whole = offset >= 0 and 0 <= length <= os.fstat(self._files[shard]).st_size - offset
        data = os.pread(self._files[shard], length, offset) if whole else b""
        if not whole or len(data) != length:
            raise ValueError(f"{self.folder / shard} is cut short: restore it, or prepare its unit again")
        return data

    def read(self, row: int, indices: Sequence[int] | None = None) -> UInt8[ndarray, "T H W 3"]:
        """Some frames of a row, or all."""
        data = self.data(row)
        if self.table.column("media")[row].as_py() == "image":
            return np.stack([read_image(data)] * (1 if indices is None else len(indices)))
        return read_mp4(data, indices)
