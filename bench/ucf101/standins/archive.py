"""An archive in UCF-101's layout: pocket scenes under the archive's names, with its lists, codec and oddities."""

from collections.abc import Collection, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from bench.ucf101.archive import LISTS, VIDEOS
from bench.ucf101.classes import GROUPS, Class, classes, file_name, list_files
from vidrd.pocket.world import ACTIONS, COLOURS, TEST_SEEDS, draw_scene, render

NTSC = Fraction(30000, 1001)
GROUP_ORDER = (1, 22, 8, 15)  # first a test group of split 1, then one that always trains, then those of splits 2 and 3
SCALE = 4  # a rendered pixel becomes a square of so many
FRAMES = range(29, 42, 3)  # UCF-101's shortest video has 29


def make_archive(
    folder: Path,
    per_class: int = 2,  # videos; the first is in the test half of split 1, the second trains in all splits
    *,
    among: Collection[str] | None = None,  # names of the classes to make; None = all 101
    frames: Sequence[int] = FRAMES,  # lengths, which the videos take in turn
    height: int = 240,
    width: int = 320,
) -> Path:
    """Write UCF-101/ and ucfTrainTestlist/ into a folder: pocket scenes under the archive's names; returns the folder.

    Every class has its own action and colour. As in the archive, some videos have B-frames and some 29.97 frames a
    second, the lists end their lines in CR LF, and HandstandPushups' files are spelled otherwise than their folder.

    Raises:
        ValueError: an unknown class, no videos, or more than 28 a class; or a size that is no multiple of 4.
    """
    known = {each.name for each in classes()}
    strange = sorted(set(among or ()) - known)
    if strange:
        raise ValueError(f"{strange[0]} is no class of UCF-101")
    if not 1 <= per_class <= 4 * 7 or height % SCALE or width % SCALE or not frames:
        raise ValueError(
            f"a stand-in takes 1 to 28 videos per class, with sides that are multiples of {SCALE}: got {per_class} "
            f"videos of {height} x {width}"
        )
    chosen = [each for each in classes() if among is None or each.name in among]
    table = tuple(Class(i, each.name, each.stem, _group_counts(per_class)) for i, each in enumerate(chosen))
    lists = folder / LISTS
    lists.mkdir(parents=True)
    for name, content in list_files(table).items():
        (lists / name).write_bytes(content)
    number = 0
    for each, kind in zip(table, chosen, strict=True):
        (folder / VIDEOS / each.name).mkdir(parents=True)
        for group, clips in enumerate(each.clips, 1):
            for clip in range(1, clips + 1):
                video = _scene(kind.index, number, frames[number % len(frames)], height, width)
                b_frames = 2 if number % 6 == 1 else 0
                rate = NTSC if number % 6 == 3 else Fraction(25)
                write_avi(folder / VIDEOS / file_name(each, group, clip), video, rate=rate, b_frames=b_frames)
                number += 1
    return folder


def _group_counts(per_class: int) -> tuple[int, ...]:
    """Videos of each of the 25 groups: one by one to the groups of `GROUP_ORDER`."""
    counts = [0] * GROUPS
    for i in range(per_class):
        counts[GROUP_ORDER[i % len(GROUP_ORDER)] - 1] += 1
    return tuple(counts)


def _scene(index: int, number: int, frames: int, height: int, width: int) -> UInt8[np.ndarray, "T H W 3"]:
    """A video whose action and colour no other class has (8 x 14 pairs for 101 classes)."""
    action, colour = ACTIONS[index % len(ACTIONS)], COLOURS[index // len(ACTIONS)]
    side = max(height, width) // SCALE
    (video,) = render([draw_scene(TEST_SEEDS[number], action=action, colour=colour)], frames, size=side)
    top, left = (side - height // SCALE) // 2, (side - width // SCALE) // 2
    cut = video[:, top : top + height // SCALE, left : left + width // SCALE]
    return np.ascontiguousarray(cut.repeat(SCALE, axis=1).repeat(SCALE, axis=2))


def write_avi(
    path: Path, video: UInt8[np.ndarray, "T H W 3"], *, rate: Fraction = Fraction(25), b_frames: int = 2
) -> None:
    """As UCF-101 is stored: XVID in an .avi, which keeps no time stamps."""
    with av.open(str(path.absolute()), "w", format="avi") as container:
        options = {"bf": str(b_frames), "g": "250", "qmin": "2", "qmax": "4"}
        stream = container.add_stream("mpeg4", rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = *video.shape[1:3], "yuv420p"
        stream.codec_context.codec_tag = "XVID"
        for picture in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
