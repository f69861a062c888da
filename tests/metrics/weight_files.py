"""Writers of weights in the formats that people have them in, and recipe weights to write."""

import struct
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from metrics.c3d import c3d_shapes
from metrics.i3d import i3d_shapes
from metrics.weights.crc32c import crc32c, mask
from metrics.weights.names import C3D_CHAINER, I3D_HASSONY2, I3D_TENSORFLOW
from tests.metrics.recipes import filled

BLOCK = 4096  # bytes after which TensorFlow begins another block of an index
RESTART = 16  # entries after which a key is written whole


def i3d_weights(gain: float = 2**0.5, *, unit_scales: bool = False) -> dict[str, torch.Tensor]:
    """The golden page's weights; `unit_scales` = batch-norm scales of 1, as TensorFlow has them."""
    ones = {name for name in i3d_shapes() if unit_scales and name.endswith("bn.weight")}
    return {
        name: torch.ones(shape) if name in ones else torch.from_numpy(filled(name, shape, gain))
        for name, shape in i3d_shapes().items()
    }


def c3d_weights(gain: float = 2**0.5) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(filled(name, shape, gain)) for name, shape in c3d_shapes().items()}


def state_dict(tensors: dict[str, torch.Tensor]) -> OrderedDict:
    """As torch saves an I3D that counted batches."""
    counted = OrderedDict(tensors)
    for name in tensors:
        if name.endswith("bn.running_var"):
            counted[name.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
    return counted


def write_npz(path: Path, tensors: dict[str, torch.Tensor], *, compressed: bool = False) -> Path:
    """As Chainer's serializer writes C3D."""
    arrays = {C3D_CHAINER[name]: tensor.numpy() for name, tensor in tensors.items()}
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


class Branch(nn.Module):
    """A node of a module tree that holds tensors under dotted names."""


class Program(Branch):
    """Fails if it runs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.numel() < 0
        return x


def write_program(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """A TorchScript program with hassony2's names, whose code would fail if it ran."""
    root = Program()
    for name, tensor in tensors.items():
        *modules, last = I3D_HASSONY2[name].split(".")
        node = root
        for module in modules:
            if module not in dict(node.named_children()):
                node.add_module(module, Branch())
            node = node.get_submodule(module)
        node.register_buffer(last, tensor)
    return save_script(path, root)


def save_script(path: Path, module: nn.Module) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have programs exported; published ones are scripts
        torch.jit.save(torch.jit.script(module), path)
    return path


def write_checkpoint(
    prefix: Path, tensors: dict[str, torch.Tensor], *, hub: bool = False, shards: int = 1, extra: bool = False
) -> Path:
    """A TensorFlow bundle, as tf.train.Saver writes it; `hub` = batch-norms of shape (1, 1, 1, 1, C)."""
    entries: dict[str, bytes] = {}
    data = [bytearray() for _ in range(shards)]
    named = {I3D_TENSORFLOW[name]: tensor for name, tensor in tensors.items() if name in I3D_TENSORFLOW}
    if extra:
        named["global_step"] = torch.zeros(1)
    for number, name in enumerate(sorted(named)):
        array = named[name].numpy()
        if array.ndim == 5:
            array = array.transpose(2, 3, 4, 1, 0)
        elif hub and "batch_norm" in name:
            array = array.reshape(1, 1, 1, 1, -1)
        octets = np.ascontiguousarray(array).tobytes()
        shard = number % shards
        entries[name] = entry(array.shape, shard, len(data[shard]), octets)
        data[shard] += octets
    for shard, octets in enumerate(data):
        Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}").write_bytes(octets)
    header = field(1, shards) + field(3, field(1, 1))
    index = Path(f"{prefix}.index")
    index.write_bytes(table({"": header, **entries}))
    return index


def entry(shape: tuple[int, ...], shard: int, offset: int, octets: bytes) -> bytes:
    """A BundleEntryProto: dtype, shape, shard, offset, size, masked checksum; zeros are left out, as protobuf does."""
    dims = b"".join(field(2, field(1, side)) for side in shape)
    numbers = {3: shard, 4: offset, 5: len(octets)}
    checksum = varint(6 << 3 | 5) + struct.pack("<I", mask(crc32c(octets)))
    return field(1, 1) + field(2, dims) + b"".join(field(k, v) for k, v in numbers.items() if v) + checksum


def table(pairs: dict[str, bytes], *, kind: int = 0) -> bytes:
    """A LevelDB table: data blocks, an empty metaindex, an index of the blocks, a footer."""
    out = bytearray()

    def put(block: bytes) -> bytes:
        handle = varint(len(out)) + varint(len(block))
        kinded = block + bytes([kind])
        out.extend(kinded + struct.pack("<I", mask(crc32c(kinded))))
        return handle

    index: list[tuple[bytes, bytes]] = []
    waiting: list[tuple[bytes, bytes]] = []
    for key, value in sorted((key.encode(), value) for key, value in pairs.items()):
        waiting.append((key, value))
        if sum(len(k) + len(v) for k, v in waiting) > BLOCK:
            index.append((waiting[-1][0], put(block_of(waiting))))
            waiting = []
    if waiting:
        index.append((waiting[-1][0], put(block_of(waiting))))
    handles = put(block_of([])) + put(block_of(index))
    return bytes(out) + handles.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def block_of(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """Entries whose keys leave out what they share with the one before, then the places where they do not."""
    out, restarts, before = bytearray(), [], b""
    for number, (key, value) in enumerate(pairs):
        shared = 0
        if number % RESTART == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    restarts = restarts or [0]
    return bytes(out) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def field(number: int, value: int | bytes) -> bytes:
    """One field of a protocol buffer message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def forged(name: str, shape: tuple[int, ...], checksum: int) -> np.ndarray:
    """Small numbers whose float32 bytes have the wanted CRC-32C: the last of them is solved for.

    A checksum is affine in the last 32 bits, by the same map whatever stands before.
    """
    random = np.random.default_rng(len(name))
    while True:
        values = (0.01 * random.standard_normal(int(np.prod(shape)))).astype("<f4")
        values[-1] = 0
        bits = solve(LAST_BITS, checksum ^ crc32c(values.tobytes()))
        values[-1] = np.frombuffer(bits.to_bytes(4, "little"), "<f4")[0]
        if np.isfinite(values[-1]) and abs(values[-1]) < 1:
            return values.reshape(shape)


LAST_BITS = [crc32c((1 << i).to_bytes(4, "little")) ^ crc32c(bytes(4)) for i in range(32)]


def solve(columns: list[int], target: int) -> int:
    """The bits x for which the XOR of columns[i] over the set bits i is the target, by elimination."""
    pivots: list[tuple[int, int]] = []
    for i, whole in enumerate(columns):
        left, made = reduced(pivots, whole)
        if left:
            pivots.append((left, made ^ 1 << i))
    left, found = reduced(pivots, target)
    assert left == 0
    return found


def reduced(pivots: list[tuple[int, int]], value: int) -> tuple[int, int]:
    """What is left of a value after its lowest bits were cancelled, and the columns that cancelled them."""
    made = 0
    for pivot, mixed in pivots:
        if value & pivot & -pivot:
            value, made = value ^ pivot, made ^ mixed
    return value, made


def zip_with(path: Path, records: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in records.items():
            file.writestr(name, content)
    return path
