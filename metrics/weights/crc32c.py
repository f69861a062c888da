"""CRC-32C (Castagnoli) of large buffers with numpy: the checksum that TensorFlow stores for every tensor.

It detects accidents, not malice: anybody can make other bytes with the same checksum.
"""

from functools import cache

import numpy as np
from jaxtyping import UInt32

POLYNOMIAL = 0x82F63B78  # reflected
MASK_DELTA = 0xA282EAD8
LANE = 256  # bytes of a lane at least: fewer make more of them to join, more make more steps


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """The checksum of `data`, unmasked; that of b"123456789" is 0xe3069283.

    The buffer is cut into lanes that advance together, four bytes a step. A checksum is linear in its start, so those
    of neighboring lanes join by moving the left one over the length of the right one.
    """
    octets = np.frombuffer(data, np.uint8)
    state = np.uint32(0xFFFFFFFF)
    while len(octets) >= 4:
        lanes = 1 << max(0, (len(octets) // LANE).bit_length() - 1)
        length = len(octets) // lanes // 4 * 4
        words = octets[: lanes * length].view("<u4").reshape(lanes, length // 4).T.copy()
        states = np.zeros(lanes, np.uint32)
        states[0] = state
        for word in words:
            states = _advance(states ^ word)
        octets = octets[lanes * length :]
        while len(states) > 1:
            states = _apply(_zeros(length), states[::2]) ^ states[1::2]
            length *= 2
        state = states[0]
    for octet in octets:
        state = _BYTES[(state ^ octet) & 255] ^ (state >> 8)
    return int(state) ^ 0xFFFFFFFF


def unmask(masked: int) -> int:
    """The checksum behind the masked one that TensorFlow and LevelDB store."""
    rotated = (masked - MASK_DELTA) & 0xFFFFFFFF
    return (rotated >> 17) | (rotated << 15) & 0xFFFFFFFF


def mask(checksum: int) -> int:
    """What TensorFlow and LevelDB store of a checksum."""
    return ((checksum >> 15 | checksum << 17) + MASK_DELTA) & 0xFFFFFFFF


def _table() -> UInt32[np.ndarray, " 256"]:
    """What a byte becomes after one more byte of zeros."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


def _halves() -> UInt32[np.ndarray, "2 65536"]:
    """What the lower and the upper 16 bits of a state become after four more bytes of zeros."""
    low = np.arange(1 << 16, dtype=np.uint32)
    halves = np.stack([low, low << 16])
    for _ in range(4):
        halves = _BYTES[halves & 255] ^ halves >> 8
    return halves


_BYTES = _table()
_LOW, _HIGH = _halves()


def _advance(states: UInt32[np.ndarray, " L"]) -> UInt32[np.ndarray, " L"]:
    """States after four more bytes of zeros."""
    return _LOW[states & 0xFFFF] ^ _HIGH[states >> 16]


@cache
def _zeros(length: int) -> UInt32[np.ndarray, " 32"]:
    """What each bit of a state becomes after `length` bytes of zeros, `length` a multiple of 4."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    if length == 4:
        return _advance(bits)
    half = length // 8 * 4
    moved = _apply(_zeros(half), _zeros(half))
    return moved if length % 8 == 0 else _advance(moved)


def _apply(bits: UInt32[np.ndarray, " 32"], states: UInt32[np.ndarray, " L"]) -> UInt32[np.ndarray, " L"]:
    """The linear map that sends bit i to bits[i], of every state."""
    moved = np.zeros_like(states)
    for i, image in enumerate(bits):
        moved ^= image * (states >> np.uint32(i) & np.uint32(1))
    return moved
