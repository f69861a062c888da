"""TensorFlow checkpoints without TensorFlow: an index, which is a LevelDB table, and shards of raw tensors.

The index maps names to dtype, shape, shard, offset, length and CRC-32C; everything is little-endian, lengths are
varints, and values are protocol buffers of a few plain fields. Every checksum in the file is verified.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np

from metrics.files import read_regular
from metrics.weights.errors import TRUNCATED, refused

MAGIC = 0xDB4775248B80FB57
MASK_DELTA = 0xA282EAD8  # by which LevelDB masks the checksums that it stores
FOOTER = 48  # bytes: two block handles, padding, the magic number
INDEX_BYTES = 1 << 26  # I3D's is some 20 kB
MOST_SHARDS = 1000
FLOAT = 1  # TensorFlow's number of float32
LITTLE_ENDIAN = 0


@dataclass(frozen=True)
class Entry:
    """The place of one tensor in the shards."""

    dtype: int  # TensorFlow's number
    shape: tuple[int, ...]
    shard: int
    offset: int  # bytes
    size: int  # bytes
    checksum: int  # CRC-32C, unmasked


@dataclass(frozen=True)
class Bundle:
    """An index: the tensors of a checkpoint and their places."""

    prefix: Path  # the file names without `.index`
    shards: int
    entries: dict[str, Entry]

    def shard(self, number: int) -> Path:
        """The data file of that number."""
        return Path(f"{self.prefix}.data-{number:05d}-of-{self.shards:05d}")

    def files(self) -> list[Path]:
        """The index and its shards."""
        return [Path(f"{self.prefix}.index"), *map(self.shard, range(self.shards))]

    def tensor(self, name: str) -> np.ndarray:
        """One float32 tensor in TensorFlow's layout.

        Raises:
            WeightsError: no such tensor, another dtype, a missing or short shard, or a wrong checksum.
        """
        index = self.files()[0]
        if name not in self.entries:
            raise refused(index, f"it has no tensor {name}")
        entry = self.entries[name]
        if entry.dtype != FLOAT:
            raise refused(index, f"{name} has TensorFlow's dtype {entry.dtype}, float32 (1) is wanted")
        if entry.size != 4 * math.prod(entry.shape) or not 0 <= entry.shard < self.shards:
            raise refused(index, f"{name} of shape {entry.shape} cannot have {entry.size} bytes in shard {entry.shard}")
        shard = self.shard(entry.shard)
        if not shard.is_file():
            raise refused(index, f"its data {shard.name} is not next to it", "keep the two together, names unchanged")
        if shard.stat().st_size < entry.offset + entry.size:
            raise refused(shard, f"it ends before {name} does: it is truncated", TRUNCATED)
        with shard.open("rb") as file:
            file.seek(entry.offset)
            octets = file.read(entry.size)
        if google_crc32c.value(octets) != entry.checksum:
            raise refused(shard, f"the checksum of {name} is wrong: it is damaged", TRUNCATED)
        return np.frombuffer(octets, "<f4").reshape(entry.shape)


def unmask(masked: int) -> int:
    """The CRC-32C behind the masked one that TensorFlow and LevelDB store."""
    rotated = (masked - MASK_DELTA) & 0xFFFFFFFF
    return (rotated >> 17) | (rotated << 15) & 0xFFFFFFFF


def is_index(path: Path) -> bool:
    """Whether the file ends as a LevelDB table does."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < FOOTER:
            return False
        file.seek(size - 8)
        return file.read() == struct.pack("<Q", MAGIC)


def read_index(path: Path) -> Bundle:
    """Read `PREFIX.index`.

    Raises:
        WeightsError: no index, or one that is truncated, damaged, compressed, big-endian or of sliced tensors.
    """
    if path.suffix != ".index":
        raise refused(path, "a TensorFlow index is named PREFIX.index, with PREFIX.data-00000-of-00001 next to it")
    try:
        octets = read_regular(path, INDEX_BYTES)
    except (OSError, ValueError) as error:
        raise refused(path, str(error)) from error
    if not is_index(path):
        raise refused(path, "it does not end as a TensorFlow index does: it is truncated or no index", TRUNCATED)
    try:
        return _parse(path, octets)
    except (IndexError, struct.error, UnicodeDecodeError, OverflowError) as error:
        raise refused(path, f"it is damaged ({error})", TRUNCATED) from error


def _parse(path: Path, octets: bytes) -> Bundle:
    footer = octets[-FOOTER:]
    _, at = _handle(footer, 0)  # the metaindex, empty in these files
    index, _ = _handle(footer, at)
    table: dict[str, bytes] = {}
    for _, handle in _pairs(path, octets, *index):
        for key, value in _pairs(path, octets, *_handle(handle, 0)[0]):
            table[key.decode()] = value
    if "" not in table:
        raise refused(path, "it has no header: it is no index of tensors")
    header = _fields(table.pop(""))
    if _number(header, 2) != LITTLE_ENDIAN:
        raise refused(path, "its tensors are big-endian, which this reader does not know")
    shards = _number(header, 1)
    if not 1 <= shards <= MOST_SHARDS:
        raise refused(path, f"it says that its tensors are in {shards} files, 1 to {MOST_SHARDS} make sense")
    entries = {name: _entry(path, name, value) for name, value in table.items()}
    return Bundle(path.with_suffix(""), shards, entries)


def _pairs(path: Path, octets: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of one block; a key repeats the beginning of the one before."""
    block, trailer = octets[offset : offset + size], octets[offset + size : offset + size + 5]
    if len(block) != size or len(trailer) != 5:
        raise refused(path, "a block ends beyond the file's end: it is truncated", TRUNCATED)
    if google_crc32c.value(block + trailer[:1]) != unmask(struct.unpack("<I", trailer[1:])[0]):
        raise refused(path, "the checksum of a block is wrong: it is damaged", TRUNCATED)
    if trailer[0] != 0:
        raise refused(path, "its blocks are compressed, which TensorFlow's own checkpoints are not")
    restarts = struct.unpack("<I", block[-4:])[0]
    end, at, key = size - 4 - 4 * restarts, 0, b""
    while at < end:
        shared, at = _varint(block, at)
        fresh, at = _varint(block, at)
        length, at = _varint(block, at)
        if shared > len(key) or at + fresh + length > end:
            raise refused(path, "an entry runs over the end of its block: it is damaged", TRUNCATED)
        key = key[:shared] + block[at : at + fresh]
        yield key, block[at + fresh : at + fresh + length]
        at += fresh + length


def _handle(octets: bytes, at: int) -> tuple[tuple[int, int], int]:
    """((offset, size) of a block, where the next thing begins)."""
    offset, at = _varint(octets, at)
    size, at = _varint(octets, at)
    return (offset, size), at


def _entry(path: Path, name: str, octets: bytes) -> Entry:
    fields = _fields(octets)
    if 7 in fields:
        raise refused(path, f"{name} is stored in slices, which this reader does not know")
    dtype, shard, offset, size, checksum = (_number(fields, number) for number in (1, 3, 4, 5, 6))
    shape = [_number(_fields(side), 1) for message in _messages(fields, 2) for side in _messages(_fields(message), 2)]
    return Entry(dtype, tuple(shape), shard, offset, size, unmask(checksum))


def _number(fields: dict[int, list[int | bytes]], number: int) -> int:
    value = fields.get(number, [0])[-1]
    if not isinstance(value, int):
        raise IndexError(f"field {number} is no number")
    return value


def _messages(fields: dict[int, list[int | bytes]], number: int) -> list[bytes]:
    values = [value for value in fields.get(number, []) if isinstance(value, bytes)]
    if len(values) != len(fields.get(number, [])):
        raise IndexError(f"field {number} is no message")
    return values


def _fields(octets: bytes) -> dict[int, list[int | bytes]]:
    """The fields of a protocol buffer message by number: varints and fixed words as ints, the rest as bytes."""
    fields: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(octets):
        tag, at = _varint(octets, at)
        value: int | bytes
        match tag & 7:
            case 0:
                value, at = _varint(octets, at)
            case 1:
                (value,), at = struct.unpack_from("<Q", octets, at), at + 8
            case 2:
                length, at = _varint(octets, at)
                if at + length > len(octets):
                    raise IndexError("a field runs over the end of its message")
                value, at = octets[at : at + length], at + length
            case 5:
                (value,), at = struct.unpack_from("<I", octets, at), at + 4
            case other:
                raise IndexError(f"a field has the unknown wire type {other}")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _varint(octets: bytes, at: int) -> tuple[int, int]:
    """(a number of seven bits a byte, lowest first; where the next thing begins)."""
    value = 0
    for shift in range(0, 64, 7):
        octet = octets[at]
        at += 1
        value |= (octet & 127) << shift
        if octet < 128:
            return value, at
    raise IndexError("a number is longer than ten bytes")
