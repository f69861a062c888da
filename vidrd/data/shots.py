"""Cut videos at their scene changes while they decode, and choose the frames that represent a clip."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from time import thread_time
from typing import Literal

import av
import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray
from scenedetect import FrameTimecode, SceneDetector
from scenedetect.detector import FlashFilter
from scenedetect.detectors import AdaptiveDetector, ContentDetector

from vidrd.data.bars import find_bars
from vidrd.data.media import THUMB, Fit, UnreadableError, VideoInfo, decode, fetch, fit_image, probe, read_image, to_rgb
from vidrd.data.record import Drop, Pixels, Record, Tally
from vidrd.foreign_media import MOST_BYTES

BLACK = 12.0  # mean brightness, of 255, below which a frame shows nothing
BLANK = 4.0  # standard deviation of brightness below which it shows nothing either
THRESHOLDS = {"content": 40.0, "adaptive": 4.0}  # by precision and recall on real clips, docs/data.md
TOGETHER = 16  # frames that are decoded, shrunk and searched for cuts in turns: caches serve one work at a time


@dataclass(frozen=True)
class CutSettings:
    """How videos become clips."""

    shorter: int | None = 256  # pixels of the shorter side as stored; None: as the source
    detector: Literal["content", "adaptive", "none"] = "content"
    threshold: float | None = None  # of the detector; None: THRESHOLDS
    min_frames: int = 16  # shorter scenes and clips are dropped
    max_frames: int = 300  # longer ones are split
    trim: int = 0  # frames left out at both sides of a cut, where dissolves smear it
    fps: float | int | None = None  # that clips are reduced to by leaving out frames; None: as the source
    bars: Literal["keep", "crop"] = "keep"  # black ones around the picture

    def __post_init__(self) -> None:
        if not 1 <= self.min_frames <= self.max_frames:
            raise ValueError(f"--min-frames is from 1 to --max-frames: got {self.min_frames} and {self.max_frames}")


def read_clips(record: Record, cutting: CutSettings, fit: Fit, tally: Tally) -> Iterator[Record | Drop]:
    """Decode a record once and yield each clip as soon as its end is known, so that long videos need no more memory.

    A picture becomes a clip of one frame. What cannot be read is dropped with its reason. Clips before damage
    count, and the damage is a drop of its own.
    """
    began = thread_time()
    try:
        source = fetch(record.uri)
        if record.media == "image":
            image = fit_image(read_image(source), fit)
            pixels = Pixels.of_rgb(image[None], fps=1.0)
            tally.spend("decode", thread_time() - began)
            yield replace(record, key=f"{record.key}_000", end=1, pixels=pixels)
            return
        info = probe(source)
        box = find_bars(source) if cutting.bars == "crop" else None
        record = record if box is None else record.having(bars_around=list(box))
        frames = decode(source, cutting.shorter, info, box)
        record, fps = _placed(record, info), info.fps
        if cutting.fps is not None and fps < cutting.fps * 0.999:
            yield Drop(record.key, "slower than --fps", f"{fps:g} frames per second")
            return
    except FileNotFoundError:
        yield Drop(record.key, "missing", record.uri)
        return
    except UnreadableError as error:
        yield Drop(record.key, "unreadable", str(error))
        return
    tally.spend("decode", thread_time() - began)
    yield from _cut(record, frames, fps, cutting, tally)


def _placed(record: Record, info: VideoInfo) -> Record:
    """The record with its seconds as frames; a file that is no longer than these seconds has been cut to them."""
    if record.seconds is None:
        return record
    begin, end = (round(each * info.fps) for each in record.seconds)
    if 0 < info.frames <= end - begin + info.fps:
        return record
    return replace(record, start=begin, end=end)


def _cut(
    record: Record, frames: Iterator[av.VideoFrame], fps: float, cutting: CutSettings, tally: Tally
) -> Iterator[Record | Drop]:
    detector, rate = new_detector(cutting), cutting.fps or fps
    held: list[av.VideoFrame] = []
    thumbs: list[ndarray] = []
    first, yielded, broken = record.start, 0, ""  # the frame of the source that held[0] is; clips; why it ended early

    def clip(count: int, *, cut: bool) -> Record | Drop:
        nonlocal first, yielded
        start = first + (cutting.trim if first > record.start else 0)
        end = first + count - (cutting.trim if cut else 0)
        key, some = f"{record.key}_{yielded:03d}", frames_at_rate(range(start - first, end - first), fps, rate)
        pixels = Pixels([held[i] for i in some], rate, np.stack([thumbs[i] for i in some])) if some else None
        del held[:count], thumbs[:count]
        first, yielded = first + count, yielded + 1
        if pixels is None or len(some) < cutting.min_frames:
            return Drop(key, "short", f"{len(some)} frames")
        return replace(record, key=key, start=start, end=end, pixels=pixels)

    wanted, index, most = islice(frames, record.start, record.end), record.start, cutting.max_frames
    while not broken:
        began = thread_time()
        some: list[av.VideoFrame] = []
        try:
            for frame in islice(wanted, TOGETHER):
                some.append(frame)  # not list(): the frames before a break count
        except UnreadableError as error:
            broken = str(error)
        small = [to_rgb(frame, THUMB) for frame in some]
        tally.spend("decode", thread_time() - began)
        if not some:
            break
        began = thread_time()
        cuts_of = [_look_for_cuts(detector, number, thumb) for number, thumb in enumerate(small, index)]
        tally.spend("cut", thread_time() - began)
        index += len(some)
        for frame, thumb, cuts in zip(some, small, cuts_of, strict=True):
            held.append(frame)
            thumbs.append(thumb)
            most = min(cutting.max_frames, max(1, MOST_BYTES * 2 // (3 * frame.width * frame.height)))
            for cut in cuts:
                if cut.frame_num > first:
                    yield clip(cut.frame_num - first, cut=True)
            # A clip is split when it is full and enough has come for the next one not to be too short.
            if len(held) >= most + cutting.min_frames:
                yield clip(most, cut=False)
    if not held and not yielded:
        yield Drop(record.key, "unreadable", broken or "no frame decodes in the wanted range")
        return
    if len(held) > most:
        yield clip(most, cut=False)
    if held:
        yield clip(len(held), cut=False)
    if broken:
        yield Drop(f"{record.key}_{yielded:03d}", "damaged", broken)


def frames_at_rate(frames: Sequence[int], fps: float | int, rate: float | int) -> list[int]:
    """Of frames at `fps` those that are shown at `rate` frames per second; all where that is no lower."""
    if rate >= fps:  # as 30 is no lower than 29.97
        return list(frames)
    return [frames[int(place * fps / rate)] for place in range(math.ceil(len(frames) * rate / fps - 1e-6))]


def new_detector(cutting: CutSettings) -> SceneDetector | None:
    """PySceneDetect's detector, or none. It reports every cut at once: what is too short is for the caller to drop."""
    if cutting.detector == "none":
        return None
    threshold = THRESHOLDS[cutting.detector] if cutting.threshold is None else cutting.threshold
    if cutting.detector == "content":
        return ContentDetector(threshold, min_scene_len=1, filter_mode=FlashFilter.Mode.SUPPRESS)
    return AdaptiveDetector(threshold, min_scene_len=1)


def detect_cuts(thumbs: UInt8[ndarray, "T h w 3"], cutting: CutSettings = CutSettings()) -> list[int]:
    """Frames with which a new scene begins."""
    detector = new_detector(cutting)
    return [cut.frame_num for index, small in enumerate(thumbs) for cut in _look_for_cuts(detector, index, small)]


def _look_for_cuts(detector: SceneDetector | None, index: int, small: UInt8[ndarray, "h w 3"]) -> list[FrameTimecode]:
    """A frame as detectors take it: BGR and with a rate, which is arbitrary because frames are counted."""
    if detector is None:
        return []
    return detector.process_frame(FrameTimecode(index, 25.0), cv2.cvtColor(small, cv2.COLOR_RGB2BGR))


def shows_something(thumbs: UInt8[ndarray, "T h w 3"]) -> ndarray:
    """For each frame, whether it is neither nearly black nor of a single color."""
    gray = thumbs.astype(np.float32).mean(axis=-1)
    return (gray.mean(axis=(1, 2)) >= BLACK) & (gray.std(axis=(1, 2)) >= BLANK)


def sharpness(frame: UInt8[ndarray, "H W 3"]) -> float:
    """Variance of the Laplacian of brightness: larger is sharper, among frames of one video."""
    return float(cv2.Laplacian(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())


def motion(thumbs: UInt8[ndarray, "T h w 3"]) -> float:
    """Mean change of green, which is most of brightness, from frame to frame, in levels of 255; 0 for a still."""
    if len(thumbs) < 2:
        return 0.0
    green = np.ascontiguousarray(thumbs[..., 1])
    return float(cv2.absdiff(green[1:], green[:-1]).mean())


def key_frames(pixels: Pixels, count: int, how: Literal["uniform", "shots", "distinct"] = "distinct") -> list[int]:
    """Frames that represent a clip, in order; fewer than `count` where fewer differ. Blank frames are left out.

    uniform: the middles of equal parts. shots: the middle of each scene, the longest ones first. distinct: the
    sharpest frame, then always the one least like those chosen so far (greedy max-min over color histograms).
    """
    fine = np.flatnonzero(shows_something(pixels.thumbs))
    if not len(fine):
        return []
    if how == "uniform":
        wanted = [(2 * i + 1) * len(pixels.thumbs) // (2 * count) for i in range(count)]
        return sorted({int(fine[np.abs(fine - index).argmin()]) for index in wanted})
    if how == "shots":
        bounds = [0, *detect_cuts(pixels.thumbs), len(pixels.thumbs)]
        shots = sorted(pairwise(bounds), key=lambda shot: shot[0] - shot[1])[:count]
        return sorted({int(fine[np.abs(fine - (a + b) // 2).argmin()]) for a, b in shots})
    step = max(1, len(fine) // 32)
    candidates = fine[step // 2 :: step]
    looks = np.stack([_look(pixels.thumbs[index]) for index in candidates])
    chosen = [int(np.argmax([sharpness(pixels.thumbs[index]) for index in candidates]))]
    while len(chosen) < count:
        nearest = np.abs(looks[:, None] - looks[None, chosen]).sum(axis=-1).min(axis=1)
        if nearest.max() < 0.02:  # of a histogram's mass of 2: what is left are duplicates
            break
        chosen.append(int(nearest.argmax()))
    return sorted(int(candidates[index]) for index in chosen)


def _look(thumb: UInt8[ndarray, "h w 3"]) -> Float[ndarray, " F"]:
    """Color histograms of the four quarters, of mass 1 together."""
    middle_y, middle_x = thumb.shape[0] // 2, thumb.shape[1] // 2
    parts: Sequence[ndarray] = [
        (thumb[y, x] >> 6).astype(np.int64) @ np.array([16, 4, 1])
        for y in (slice(middle_y), slice(middle_y, None))
        for x in (slice(middle_x), slice(middle_x, None))
    ]
    counts = np.concatenate([np.bincount(part.ravel(), minlength=64) for part in parts])
    return counts / counts.sum()
