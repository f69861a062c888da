"""Writers of weights in the formats that people have them in, for networks that nobody trained.

What loads a published file loads what is written here, by the same names, layouts and checksums.
"""

import struct
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import google_crc32c
import numpy as np
import torch
from torch import Tensor, nn

from metrics.weights.tensor_names import C3D_CHAINER, I3D_HASSONY2, I3D_TENSORFLOW
from metrics.weights.tf_checkpoint import MASK_DELTA

BLOCK = 4096  # bytes after which TensorFlow begins another block of an index
RESTART = 16  # entries after which a key is written whole


def state_dict(tensors: Mapping[str, Tensor]) -> "OrderedDict[str, Tensor]":
    """As torch saves an I3D that counted batches."""
    counted = OrderedDict(tensors)
    for name in tensors:
        if name.endswith("bn.running_var"):
            counted[name.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
    return counted


def write_npz(path: Path, tensors: Mapping[str, Tensor], *, compressed: bool = False) -> Path:
    """As Chainer's serializer writes C3D."""
    arrays = {C3D_CHAINER[name]: tensor.numpy() for name, tensor in tensors.items()}
    if compressed:
        np.savez_compressed(path, allow_pickle=False, **arrays)
    else:
        np.savez(path, allow_pickle=False, **arrays)
    return path


class Branch(nn.Module):
    """A node of a module tree that holds tensors under dotted names."""


class Program(Branch):
    """Fails if it runs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Fail."""
        assert x.numel() < 0
        return x


def write_program(path: Path, tensors: Mapping[str, Tensor]) -> Path:
    """A TorchScript program with hassony2's names, whose code would fail if it ran."""
    root = Program()
    for name, tensor in tensors.items():
        *modules, last = I3D_HASSONY2[name].split(".")
        node: nn.Module = root
        for module in modules:
            if module not in dict(node.named_children()):
                node.add_module(module, Branch())
            node = node.get_submodule(module)
        node.register_buffer(last, tensor)
    return save_script(path, root)


def save_script(path: Path, module: nn.Module) -> Path:
    """A TorchScript file of a module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have programs exported; published ones are scripts
        torch.jit.save(torch.jit.script(module), path)
    return path


def write_checkpoint(
    prefix: Path, tensors: Mapping[str, Tensor], *, hub: bool = False, shards: int = 1, extra: bool = False
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
    for shard, content in enumerate(data):
        Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}").write_bytes(content)
    header = field(1, shards) + field(3, field(1, 1))
    index = Path(f"{prefix}.index")
    index.write_bytes(table({"": header, **entries}))
    return index


def entry(shape: tuple[int, ...], shard: int, offset: int, octets: bytes) -> bytes:
    """A BundleEntryProto: dtype, shape, shard, offset, size, masked checksum; zeros are left out, as protobuf does."""
    dims = b"".join(field(2, field(1, side)) for side in shape)
    numbers = {3: shard, 4: offset, 5: len(octets)}
    checksum = varint(6 << 3 | 5) + struct.pack("<I", mask(google_crc32c.value(octets)))
    return field(1, 1) + field(2, dims) + b"".join(field(k, v) for k, v in numbers.items() if v) + checksum


def mask(checksum: int) -> int:
    """What TensorFlow and LevelDB store of a CRC-32C."""
    return ((checksum >> 15 | checksum << 17) + MASK_DELTA) & 0xFFFFFFFF


def table(pairs: dict[str, bytes], *, kind: int = 0) -> bytes:
    """A LevelDB table: data blocks, an empty metaindex, an index of the blocks, a footer."""
    out = bytearray()

    def put(block: bytes) -> bytes:
        handle = varint(len(out)) + varint(len(block))
        kinded = block + bytes([kind])
        out.extend(kinded + struct.pack("<I", mask(google_crc32c.value(kinded))))
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
    """A number as protocol buffers write it, seven bits a byte."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
