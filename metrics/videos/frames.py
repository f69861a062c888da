"""The one place that checks videos and converts them to the input of networks and formulas.

Stored videos: N T H W C, uint8, RGB. Networks: B C T H W, float32 in [-1, 1].
"""

import numpy as np
from jaxtyping import Float32, Float64, Int, UInt8


def check_videos(videos: np.ndarray, *, frames: int = 1, what: str = "videos") -> None:
    """Raise one clear line unless `videos` is an N T H W 3 uint8 array of at least one video and `frames` frames.

    Raises:
        ValueError: another type or dtype, another number of axes, no RGB last, no video, or too few frames.
    """
    if not isinstance(videos, np.ndarray):
        raise ValueError(f"{what} must be a numpy array N T H W C: got a {type(videos).__name__}, convert it first")
    if videos.dtype != np.uint8:
        raise ValueError(f"{what} must be uint8 in 0..255: got {videos.dtype}, scale, round and convert them first")
    if videos.ndim != 5 or videos.shape[-1] != 3:
        raise ValueError(f"{what} must have the axes N T H W C with C = 3 (RGB): got the shape {videos.shape}")
    if min(videos.shape) == 0:
        raise ValueError(f"{what} of shape {videos.shape} hold nothing: give at least one video")
    if videos.shape[1] < frames:
        raise ValueError(f"{what} must have at least {frames} frames: got {videos.shape[1]}, give longer videos")


def to_network(videos: UInt8[np.ndarray, "N T H W C"]) -> Float32[np.ndarray, "N C T H W"]:
    """A network's input: 0..255 becomes [-1, 1]; a view whose memory stays channels-last."""
    signed = np.multiply(videos, np.float32(2 / 255), dtype=np.float32)
    signed -= 1
    return signed.transpose(0, 4, 1, 2, 3)


def to_unit(videos: UInt8[np.ndarray, "*axes"]) -> Float64[np.ndarray, "*axes"]:
    """0..255 becomes [0, 1], in float64, any axes."""
    return videos / np.float64(255)


def windows(
    videos: UInt8[np.ndarray, "N T H W C"], frames: int | None
) -> tuple[UInt8[np.ndarray, "K frames H W C"], Int[np.ndarray, " K"]]:
    """Cut each video, from its first frame on, into all the windows of `frames` frames that fit without overlap.

    A remainder shorter than a window is not read; None takes videos whole. Windows of one video are next to each other,
    in order.

    Returns:
        the windows, and for each the index of the video it comes from.

    Raises:
        ValueError: videos shorter than one window, or a window of no frame.
    """
    check_videos(videos, frames=frames or 1)
    frames = videos.shape[1] if frames is None else frames
    if frames < 1:
        raise ValueError(f"a window holds at least one frame: got {frames}")
    n, count = len(videos), videos.shape[1] // frames
    cut = videos[:, : count * frames].reshape(n * count, frames, *videos.shape[2:])
    return cut, np.repeat(np.arange(n), count)
