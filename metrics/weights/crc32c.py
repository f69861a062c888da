"""CRC-32C (Castagnoli) of large buffers with numpy: the checksum that TensorFlow keeps of every tensor.

It tells accidents, not malice: whoever wants can make other bytes with the same checksum.
"""

import numpy as np
from jaxtyping import UInt32

POLYNOMIAL = 0x82F63B78  # reflected
MASK_DELTA = 0xA282EAD8


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """The checksum of `data`, unmasked; that of b"123456789" is 0xe3069283.

    The buffer is cut into lanes that advance together, four bytes a step. A checksum is linear in its start, so those
    of neighbouring lanes join by moving the left one over the length of the right one.
    """
    octets = np.frombuffer(data, np.uint8)
    state = np.uint32(0xFFFFFFFF)
    while len(octets) >= 4:
        lanes = 1 << max(0, (len(octets) // 1024).bit_length() - 1)
        length = len(octets) // lanes // 4 * 4
        words = octets[: lanes * length].view("<u4").reshape(lanes, length // 4).T.copy()
        states = np.zeros(lanes, np.uint32)
        states[0] = state
        for word in words:
            states = _advance(states ^ word)
        over = _zeros(length)
        while len(states) > 1:
            states = _apply(over, states[::2]) ^ states[1::2]
            over = _apply(over, over)
        state, octets = states[0], octets[lanes * length :]
    for octet in octets:
        state = _TABLES[0][(state ^ octet) & 255] ^ (state >> 8)
    return int(state) ^ 0xFFFFFFFF


def unmask(masked: int) -> int:
    """The checksum behind the masked one that TensorFlow and LevelDB store."""
    rotated = (masked - MASK_DELTA) & 0xFFFFFFFF
    return (rotated >> 17) | (rotated << 15) & 0xFFFFFFFF


def mask(checksum: int) -> int:
    """What TensorFlow and LevelDB store of a checksum."""
    return ((checksum >> 15 | checksum << 17) + MASK_DELTA) & 0xFFFFFFFF


def _tables() -> UInt32[np.ndarray, "4 256"]:
    """Row k: what a byte becomes after k more bytes of zeros."""
    first = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        first = np.where(first & 1, first >> 1 ^ np.uint32(POLYNOMIAL), first >> 1).astype(np.uint32)
    rows = [first]
    for _ in range(3):
        rows.append(first[rows[-1] & 255] ^ rows[-1] >> 8)
    return np.stack(rows)


_TABLES = _tables()


def _advance(states: UInt32[np.ndarray, " L"]) -> UInt32[np.ndarray, " L"]:
    """States after four more bytes of zeros."""
    a, b, c, d = _TABLES[::-1]
    return a[states & 255] ^ b[states >> 8 & 255] ^ c[states >> 16 & 255] ^ d[states >> 24]


def _zeros(length: int) -> UInt32[np.ndarray, " 32"]:
    """What each bit of a state becomes after `length` bytes of zeros, `length` a multiple of 4."""
    done = step = (np.uint32(1) << np.arange(32, dtype=np.uint32)).astype(np.uint32)
    step = _advance(step)
    steps = length // 4
    while steps:
        if steps & 1:
            done = _apply(step, done)
        step = _apply(step, step)
        steps >>= 1
    return done


def _apply(bits: UInt32[np.ndarray, " 32"], states: UInt32[np.ndarray, " L"]) -> UInt32[np.ndarray, " L"]:
    """The linear map that sends bit i to bits[i], of every state."""
    moved = np.zeros_like(states)
    for i, image in enumerate(bits):
        moved ^= image * (states >> np.uint32(i) & np.uint32(1))
    return moved
