"""What happens to a video over minutes: similarity against gap, start against end, VDE, color by window.

All take the features or numbers of every frame, never frames, so a video of any length fits. For none of these is
lower better by itself: real video moves on, and a frozen or looping one is perfect. Read them beside real video's own
curve, with a measure of motion and with `cycling`.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64, UInt8

from metrics.vbench.formulas import directions

GAPS = (1, 2, 5, 10, 20, 50)  # frames
SHARE = 0.15  # of a video at either end, HeliosBench
CHUNKS = 10  # of VDE


def similarity_against_gap(features: Float[np.ndarray, "T F"], gap: int) -> float:
    """Mean cosine of all frames `gap` apart. 1 for a still video.

    Blind to order within the gap: what goes and comes back looks steady at its period.

    Raises:
        ValueError: a video without such a pair.

    Source: Vchitect/VBench issue 206 (words, no formula); gaps are in frames, so state seconds at other rates.
    """
    if len(features) <= gap:
        raise ValueError(f"frames {gap} apart need more than {gap}: got {len(features)}, give longer videos")
    unit = directions(features)
    return float((unit[:-gap] * unit[gap:]).sum(axis=1).mean())


def autocorrelation(features: Float[np.ndarray, "T F"]) -> Float64[np.ndarray, " L"]:
    """How alike rows are at every lag from 1 to half their number: 1 = the same again, 0 = as any two rows.

    Of rows from which their mean is taken: the mean product of rows that far apart, by the mean square of a row.
    Content that comes back shows as a peak at its period; a slow drift as a slope that begins high. Real periodic
    motion has peaks too. 0 for a still video.

    Raises:
        ValueError: fewer than four rows.
    """
    if len(features) < 4:
        raise ValueError(f"lags to half the length need 4 rows or more: got {len(features)}, give longer videos")
    rows = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    power = float((rows**2).sum(axis=1).mean())
    if power <= 1e-20 * float((features.astype(np.float64) ** 2).sum(axis=1).mean()):
        return np.zeros(len(rows) // 2)
    lags = range(1, len(rows) // 2 + 1)
    return np.array([float((rows[:-lag] * rows[lag:]).sum(axis=1).mean()) for lag in lags]) / power


def identity_against_first(features: Float[np.ndarray, "T F"]) -> Float64[np.ndarray, " S"]:
    """Cosine of every later frame with frame 0: whether the subject stays who it was, if its features tell.

    Raises:
        ValueError: a video of one frame.
    """
    if len(features) < 2:
        raise ValueError("identity compares later frames with the first: got one frame, give longer videos")
    unit = directions(features)
    return unit[1:] @ unit[0]


def end_frames(length: int, share: float = SHARE) -> int:
    """How many frames each end of a video has."""
    return max(1, int(share * length))


def start_against_end(values: Float[np.ndarray, " T"], share: float = SHARE) -> float:
    """|mean of the first 15 % - mean of the last 15 %|, HeliosBench's drift of a number per frame.

    Above 0 for real video too, whose start and end show other things. Blind to a fault in the middle 70 %, and to drift
    that returns.

    Source: PKU-YuanGroup/Helios 2276f8f, eval/5_get_drifting_aesthetic.py and its like.
    """
    n = end_frames(len(values), share)
    return abs(float(np.mean(values[:n], dtype=np.float64)) - float(np.mean(values[-n:], dtype=np.float64)))


def semantic_frames(length: int, count: int = 8) -> tuple[list[int], list[int]]:
    """HeliosBench's 8 frames of the first and of the last 15 %; an end of fewer frames is widened to 8.

    Raises:
        ValueError: fewer frames than that in all.
    """
    if length < count:
        raise ValueError(f"the ends are compared by {count} frames each: got a video of {length}, give longer ones")
    first, last = int(length * SHARE), int(length * (1 - SHARE))
    spans = (0, max(first, count)), (min(last, length - count), length)
    start, end = ([int(a + i * (b - a) / count) for i in range(count)] for a, b in spans)
    return start, end


def chunk_means(values: Float[np.ndarray, " T"], chunks: int = CHUNKS) -> Float64[np.ndarray, " N"]:
    """Means of equal chunks of a number per frame; frames beyond the last whole chunk are not read.

    Raises:
        ValueError: fewer frames than chunks, of which VDE's code makes None and ends.
    """
    size = len(values) // chunks
    if size == 0:
        raise ValueError(f"VDE cuts a video into {chunks} chunks: got {len(values)} frames, give longer videos")
    return values[: size * chunks].astype(np.float64).reshape(chunks, size).mean(axis=1)


def vde(chunks: Sequence[float] | Float[np.ndarray, " N"], weights: Literal["linear", "log"] = "linear") -> float:
    """Video drift error as published: sum of w_i |M_i - M_1| / M_1 over chunks 2..N, w_i = N - i + 1 or its logarithm.

    Its three faults: it is not normalized, so that it grows with N^2 (a steady loss of 10 % is 4.5 at N = 10); the
    weights favor early chunks, and the logarithm gives the last one 0; and dividing by M_1 makes it infinite at 0,
    negative below, and small where the first chunk is bad. `drift_of_chunks` has none of them.

    Source: alibaba-damo-academy/Inferix a8cb31d, LV-Bench/vde.py, in float32 as there; arXiv:2511.22973.
    """
    values = np.asarray(chunks, dtype=np.float32)
    count = len(values)
    ranks = np.arange(count - 1, 0, -1, dtype=np.float32)
    factors = np.log(ranks) if weights == "log" else ranks
    with np.errstate(divide="ignore", invalid="ignore"):
        return float((factors * np.abs(values[1:] - values[0])).sum(dtype=np.float32) / values[0])


def drift_of_chunks(chunks: Sequence[float] | Float[np.ndarray, " N"]) -> float:
    """VDE repaired: the mean of |M_i - M_1| over chunks 2..N, weighted by i - 1, in the measure's own unit.

    Weights add to 1, so chunks may be few or many; late chunks count most, as long video is about; and nothing is
    divided by. A steady level gives 0 and a step d after the first chunk gives d.
    """
    values = np.asarray(chunks, dtype=np.float64)
    if len(values) < 2:
        return 0.0
    ranks = np.arange(1, len(values), dtype=np.float64)
    return float((ranks * np.abs(values[1:] - values[0])).sum() / ranks.sum())


def frame_colors(frames: UInt8[np.ndarray, "T H W C"]) -> Float64[np.ndarray, "T 4"]:
    """Mean red, green and blue of every frame in gray levels, and its mean HSV saturation in [0, 1]."""
    means = frames.mean(axis=(1, 2), dtype=np.float64)
    most = frames.max(axis=-1).astype(np.float64)
    spread = most - frames.min(axis=-1)
    saturation = np.divide(spread, most, out=np.zeros_like(most), where=most > 0).mean(axis=(1, 2))
    return np.concatenate([means, saturation[:, None]], axis=1)


def window_colors(colors: Float[np.ndarray, "T 4"], window: int) -> Float64[np.ndarray, "K 4"]:
    """Means of `frame_colors` over windows of so many frames from the first on; a shorter last one is not read.

    Raises:
        ValueError: fewer than two windows.
    """
    count = len(colors) // window if window > 0 else 0
    if count < 2:
        raise ValueError(
            f"colors are compared between windows of {window} frames: got {len(colors)}, give longer videos"
        )
    return colors[: count * window].astype(np.float64).reshape(count, window, 4).mean(axis=1)


def color_step(colors: Float[np.ndarray, "T 4"], window: int) -> float:
    """Mean over windows of |change of mean RGB to the next|, averaged over R, G and B, in gray levels.

    Sees a tint that fades in; blind to saturation, which leaves mean RGB alone.

    Source: deepbeepmeep/Wan2GP issue 2132 (a symptom, no formula).
    """
    return float(np.abs(np.diff(window_colors(colors, window)[:, :3], axis=0)).mean())


def saturation_step(colors: Float[np.ndarray, "T 4"], window: int) -> float:
    """Mean change of saturation from window to window: above 0 where colors grow stronger. Blind to tint."""
    return float(np.diff(window_colors(colors, window)[:, 3]).mean())


def seam_color_step(colors: Float[np.ndarray, "T 4"], window: int) -> float:
    """Mean over seams of |change of mean RGB from a window's last frame to the next one's first|, in gray levels.

    Sees a jump at the join; blind to drift that fades in, and raised by motion as any two frames are.
    """
    count = len(window_colors(colors, window))
    seams = np.arange(1, count) * window
    return float(np.abs(colors[seams, :3] - colors[seams - 1, :3]).mean())
