"""Whether a file ends where its own structure says: what is cut off may decode without a complaint.

Only sizes are read, nothing is decoded. Formats that declare no size (MPEG streams) or that count their frames (AVI)
are left to whoever counts frames.
"""

import os
from io import BufferedReader

EBML = b"\x1a\x45\xdf\xa3"
SEGMENT, CLUSTER = 0x18538067, 0x1F43B675  # Matroska's elements of elements
INSIDE = {  # what may follow in a segment or in one of its clusters
    0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367,  # seek head ... tags
    0xE7, 0x5854, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF, 0xEC, 0xBF,  # time, blocks, void, checksum
}  # fmt: skip
BOXES = {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot", b"udta", b"uuid", b"sidx"}
BOXES |= {b"mfra", b"meta", b"emsg", b"prft", b"ssix"}
NEEDED = {b"moov", b"moof", b"mdat"}  # the boxes that frames are in
GIF = (b"GIF87a", b"GIF89a")
GIF_END = b";"


def find_cut(file: BufferedReader) -> str:
    """Why a file is not whole: "" if nothing speaks against it."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head.startswith(EBML):
        return _matroska(file, size)
    if head[4:8] in BOXES:
        return _boxes(file, size)
    if head.startswith(GIF):
        file.seek(max(0, size - 4096))
        return "" if file.read().rstrip(b"\0").endswith(GIF_END) else "it lacks the end mark of a GIF"
    return ""


def _matroska(file: BufferedReader, size: int) -> str:
    """Walk over the elements of segment and clusters, all of which have to follow one another up to the end."""
    at, end = 0, size
    while at < end:
        file.seek(at)
        head = file.read(12)
        name, width = _number(head, 0, keep_marker=True)
        length, more = _number(head, width)
        if not width or not more:
            return f"its elements end in the middle of one, at byte {at}"
        body, unknown = at + width + more, length == (1 << (7 * more)) - 1
        if name == SEGMENT:
            if not unknown and body + length > size:
                return f"its segment ends at byte {body + length}, the file at byte {size}"
            at, end = body, size if unknown else body + length
        elif name == CLUSTER:
            at = body
        elif name in INSIDE or at == 0:
            at = body + length
        else:
            return f"there is no element at byte {at}, where one should begin"
    return "" if at == end else f"its last element ends at byte {at}, the file at byte {end}"


def _number(octets: bytes, at: int, *, keep_marker: bool = False) -> tuple[int, int]:
    """(EBML's number of variable width, its width in bytes); (0, 0) where there is none."""
    width = 9 - octets[at].bit_length() if at < len(octets) else 9
    if width > 8 or at + width > len(octets):
        return 0, 0
    value = int.from_bytes(octets[at : at + width], "big")
    return (value if keep_marker else value & ((1 << (7 * width)) - 1)), width


def _boxes(file: BufferedReader, size: int) -> str:
    """Walk over the outermost boxes of an MP4; what follows the last known one does not matter."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if kind not in BOXES or length == 0:  # 0: up to the end
            return ""
        length = int.from_bytes(head[8:16], "big") if length == 1 else length
        if at + length > size and kind in NEEDED:
            return f"its {kind.decode()} ends at byte {at + length}, the file at byte {size}"
        at += max(length, 8)
    return ""
