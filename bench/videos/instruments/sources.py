"""Where clean videos come from: the pocket world, whose scenes are known exactly, or real clips."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import UInt8

from bench.results.records import digest
from metrics.videos.read import Video, list_videos
from vidrd.pocket.world import ATTRIBUTES, TEST_SEEDS, Scene, draw_scene, render

Videos = UInt8[np.ndarray, "N T H W C"]
POCKET = "pocket"  # the name of the source that is no folder
SIDE = 64  # pixels of the middle square of a real clip, averaged
APART = 5_000  # from the seeds of the clean scenes to those of the other real ones


@runtime_checkable  # for the tests, which check arguments
class VideoSource(Protocol):
    """Clean videos to be damaged."""

    def __len__(self) -> int:
        """How many there are."""

    def clean(self, frames: int, step: float = 1.0) -> Videos:
        """The videos, `step` times as fast."""

    def others(self, frames: int) -> Videos:
        """Videos that show something else, one for each."""

    def of_few_kinds(self, share: float) -> "VideoSource":
        """As many videos of a share of their kinds, at least one."""


@dataclass(frozen=True)
class PocketVideos:
    """Videos of scenes; kinds are actions, and others show the same in the next color."""

    scenes: tuple[Scene, ...]

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.scenes)

    def clean(self, frames: int, step: float = 1.0) -> Videos:
        """Rendered exactly, at any step."""
        return render(self.scenes, frames, step=step)

    def others(self, frames: int) -> Videos:
        """The same scenes in the next color."""
        colors = list(ATTRIBUTES["colour"])
        others = [
            replace(scene, colour=colors[(colors.index(scene.colour) + 1) % len(colors)]) for scene in self.scenes
        ]
        return render(others, frames)

    def of_few_kinds(self, share: float) -> VideoSource:
        """Of the first actions."""
        actions = list(ATTRIBUTES["action"])
        kept = set(actions[: max(1, round(len(actions) * share))])
        chosen = [scene for scene in self.scenes if scene.action in kept] or list(self.scenes[:1])
        return PocketVideos(tuple(chosen[i % len(chosen)] for i in range(len(self.scenes))))


@dataclass(frozen=True)
class RealVideos:
    """Real clips of twice the length that is looked at; each is a kind, and others are the next clips."""

    clips: Videos

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.clips)

    def clean(self, frames: int, step: float = 1.0) -> Videos:
        """The nearest frames."""
        return self.clips[:, np.rint(step * np.arange(frames)).astype(int)]

    def others(self, frames: int) -> Videos:
        """The next clip of each."""
        return np.roll(self.clips, -1, axis=0)[:, :frames]

    def of_few_kinds(self, share: float) -> VideoSource:
        """The first clips, again and again."""
        kept = max(1, round(share * len(self)))
        return RealVideos(self.clips[np.arange(len(self)) % kept])


def sources_of(name: str, videos: int, frames: int, seed: int) -> tuple[VideoSource, Callable[[], Videos]]:
    """Clean videos to be damaged, and what makes other real ones of the same kind, as many of each.

    Real clips are shuffled by the seed and halved; each gives its first 2 `frames` frames.

    Raises:
        ValueError: fewer than 32 clips that are long enough.
    """
    if name == POCKET:
        scenes, others = (pocket_scenes(videos, seed, first) for first in (0, APART))
        return PocketVideos(scenes), lambda: render(others, frames)
    clips = long_enough(name, 2 * frames)
    order = np.random.default_rng(seed).permutation(len(clips)).tolist()
    half = min(videos, len(clips) // 2)

    def cut(places: Sequence[int], length: int) -> Videos:
        return np.stack([square(clips[place], length) for place in places])

    return RealVideos(cut(order[:half], 2 * frames)), lambda: cut(order[half : 2 * half], frames)


def pocket_scenes(videos: int, seed: int, first: int = 0) -> tuple[Scene, ...]:
    """Scenes that no network was trained on."""
    return tuple(draw_scene(TEST_SEEDS[10_000 * seed + first + i]) for i in range(videos))


@cache
def long_enough(folder: str, frames: int) -> tuple[Video, ...]:
    """The videos of a folder, or of a list of files in a text file, that can be read and have so many frames.

    Raises:
        ValueError: there are fewer than 32, the least of which both halves can be told apart.
    """
    videos = tuple(video for video in videos_of(folder) if _frames(video) >= frames)
    if len(videos) < 32:
        raise ValueError(f"real clips are 32 or more of {frames} frames: got {len(videos)} in {folder}")
    return videos


def _frames(video: Video) -> int:
    """0 if it cannot be read."""
    try:
        return video.probe().frames
    except ValueError:
        return 0


def videos_of(place: str) -> list[Video]:
    """The videos below a folder, or those that a text file names, one a line, from its own folder.

    Raises:
        ValueError: no videos there.
    """
    path = Path(place)
    if path.suffix != ".txt":
        return list_videos(path)
    names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [video for name in names for video in list_videos(path.parent / name)]


@cache
def content_of(place: str) -> str:
    """Twelve digits of the names and contents of the videos."""
    from bench.ucf101.features import content_hash  # noqa: PLC0415  (loads diffusers, which a list of suites need not)

    return digest([[video.name, video.fingerprint() or content_hash(video)] for video in videos_of(place)])


def square(video: Video, frames: int) -> UInt8[np.ndarray, "T H W C"]:
    """The middle square of the first frames, averaged to `SIDE` pixels."""
    pixels = video.read(0, frames)
    side = min(pixels.shape[1:3])
    top, left = ((length - side) // 2 for length in pixels.shape[1:3])
    cut = pixels[:, top : top + side, left : left + side]
    return np.stack([cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in cut])


def captions_of(source: VideoSource) -> Sequence[Scene] | None:
    """What the captions of the videos say; None of real clips, whose captions no gauge knows."""
    return source.scenes if isinstance(source, PocketVideos) else None
