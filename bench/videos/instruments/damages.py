"""Known damages of video, each in strengths from 0 to 1: what an instrument is shown to see whether it sees.

Every damage takes a source of clean videos and gives damaged videos of the same scenes, so that a strength of 0 changes
nothing. What is random is drawn from a generator that the caller seeds.
"""

import io
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from bench.videos.instruments.sources import Videos, VideoSource

Apply = Callable[[VideoSource, int, float, np.random.Generator], Videos]  # source, frames, strength


class Damage(NamedTuple):
    """One kind of damage."""

    says: str  # what strength 1 is
    apply: Apply


def _by_times(times: Callable[[int, float, np.random.Generator], Int[np.ndarray, " T"]]) -> Apply:
    """Frames taken at other times of the clean video."""

    def apply(source: VideoSource, frames: int, strength: float, rng: np.random.Generator) -> Videos:
        rows = np.stack([times(frames, strength, rng) for _ in range(len(source))])
        clean = source.clean(int(rows.max()) + 1)
        return clean[np.arange(len(source))[:, None], rows]

    return apply


def _by_frame(change: Callable[[Float[np.ndarray, "T H W C"], float, np.random.Generator], np.ndarray]) -> Apply:
    """Pixels changed, in gray levels; the result is rounded and clipped."""

    def apply(source: VideoSource, frames: int, strength: float, rng: np.random.Generator) -> Videos:
        clean = source.clean(frames)
        if strength == 0:
            return clean
        changed = [change(video.astype(np.float64), strength, rng) for video in clean]
        return np.rint(np.stack(changed)).clip(0, 255).astype(np.uint8)

    return apply


def _frozen(frames: int, strength: float, rng: np.random.Generator) -> Int[np.ndarray, " T"]:
    last = round((1 - strength) * (frames - 1))
    return np.minimum(np.arange(frames), last)


def _repeated(frames: int, strength: float, rng: np.random.Generator) -> Int[np.ndarray, " T"]:
    period = max(1, round(frames * (1 - strength / 2)))
    return np.arange(frames) % period


def _mirrored(frames: int, strength: float, rng: np.random.Generator) -> Int[np.ndarray, " T"]:
    turn = max(frames // 2, round((frames - 1) * (1 - strength / 2)))  # so that no frame lies before the first
    return np.minimum(np.arange(frames), 2 * turn - np.arange(frames))


def _shuffled(frames: int, strength: float, rng: np.random.Generator) -> Int[np.ndarray, " T"]:
    shots = np.array_split(np.arange(frames), max(1, round(strength * frames)))
    order = rng.permutation(len(shots))
    return np.concatenate([shots[i] for i in order])


def _dropped(frames: int, strength: float, rng: np.random.Generator) -> Int[np.ndarray, " T"]:
    return np.arange(frames) + np.cumsum(rng.random(frames) < strength / 2)


def _doubled(frames: int, strength: float, rng: np.random.Generator) -> Int[np.ndarray, " T"]:
    held = rng.random(frames) < strength / 2
    held[0] = False
    return np.arange(frames) - np.cumsum(held)


def _seam(frames: int, strength: float, rng: np.random.Generator) -> Int[np.ndarray, " T"]:
    return np.arange(frames) + round(8 * strength) * (np.arange(frames) >= frames // 2)


def _sped(source: VideoSource, frames: int, strength: float, rng: np.random.Generator) -> Videos:
    return source.clean(frames, step=1.0 + strength)


def _morphed(source: VideoSource, frames: int, strength: float, rng: np.random.Generator) -> Videos:
    share = (strength * np.arange(frames) / (frames - 1))[:, None, None, None]
    mixed = source.clean(frames) * (1 - share) + source.others(frames) * share
    return np.rint(mixed).astype(np.uint8)


def _missing(source: VideoSource, frames: int, strength: float, rng: np.random.Generator) -> Videos:
    return source.of_few_kinds(1 - strength).clean(frames)


def _saturated(video: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    gray = video.mean(axis=-1, keepdims=True)
    gain = 1 + strength * np.arange(len(video)) / (len(video) - 1)
    return gray + (video - gray) * gain[:, None, None, None]


def _flickering(video: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return video + 20 * strength * (-1.0) ** np.arange(len(video))[:, None, None, None]


def _blurred(video: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 2 * strength) for frame in video])


def _noisy(video: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return video + 24 * strength * rng.standard_normal(video.shape)


def _jpeg(video: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    frames = []
    for frame in video.astype(np.uint8):
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=round(100 - 90 * strength))
        frames.append(np.asarray(Image.open(buffer)))
    return np.stack(frames)


DAMAGES: dict[str, Damage] = {
    "frozen": Damage("the first frame is held", _by_times(_frozen)),
    "repeated": Damage("the second half repeats the first", _by_times(_repeated)),
    "mirrored": Damage("the second half plays the first backwards", _by_times(_mirrored)),
    "shuffled": Damage("frames in random order; below it, shots of several frames", _by_times(_shuffled)),
    "dropped": Damage("a frame is missing at half of the steps, at random", _by_times(_dropped)),
    "doubled": Damage("half of the frames are held from the one before, at random", _by_times(_doubled)),
    "speed": Damage("twice as fast", _sped),
    "color slope": Damage("saturation doubles from start to end", _by_frame(_saturated)),
    "flicker": Damage("brightness alternates by 20 gray levels up and down", _by_frame(_flickering)),
    "seam": Damage("a jump of 8 frames in the middle", _by_times(_seam)),
    "identity": Damage("the object fades into one of another color; a real clip into another one", _morphed),
    "blur": Damage("Gaussian blur of 2 pixels", _by_frame(_blurred)),
    "noise": Damage("Gaussian noise of 24 gray levels", _by_frame(_noisy)),
    "jpeg": Damage("JPEG of quality 10", _by_frame(_jpeg)),
    "wrong caption": Damage("no video shows what its caption says", _by_frame(lambda video, strength, rng: video)),
    "missing half": Damage("one action is left of fourteen, of real clips one clip; at 0.5 half of them", _missing),
}
