"""How alike two videos of the same prompt and noise are, frame by frame: PSNR, SSIM, and how the error grows.

These ask whether an approximation made the *same* video. Where an exact computation also ends elsewhere (rounding that
a chaotic sampler magnifies), they say how far, not how much worse.
"""

import numpy as np
from jaxtyping import Float64, UInt8
from scipy.ndimage import gaussian_filter

MOST_PSNR = 100.0  # dB, of equal frames, whose own would be infinite
SPREAD, REACH = 1.5, 5  # of SSIM's Gaussian window: standard deviation and half width, pixels
LUMA = (0.299, 0.587, 0.114)

Video = UInt8[np.ndarray, "_ _ _ _"]  # T H W C; `_check` compares the two


def psnr(first: Video, second: Video) -> Float64[np.ndarray, " T"]:
    """Peak signal-to-noise ratio of every frame in dB, over pixels and channels; equal frames have 100."""
    errors = np.square(_rms(first, second))
    with np.errstate(divide="ignore"):
        return np.minimum(MOST_PSNR, 10 * np.log10(255**2 / errors))


def ssim(first: Video, second: Video) -> Float64[np.ndarray, " T"]:
    """Structural similarity of every frame's luma in [-1, 1], 1 for equal ones.

    A Gaussian window of 11 pixels, K = 0.01 and 0.03; windows that leave the frame are left out, unless all do.

    Source: Wang et al. 2004, Image quality assessment: from error visibility to structural similarity.
    """
    _check(first, second)
    return np.array([_ssim(a.astype(np.float64) @ LUMA, b.astype(np.float64) @ LUMA) for a, b in _pairs(first, second)])


def error_growth(first: Video, second: Video) -> float:
    """log2 of the root mean square error in the last quarter of the frames relative to that in the first.

    0 = it does not grow along the video, 1 = it doubles. A hundredth of a gray level is added to both, so that videos
    that are equal, or equal in part, have a number.
    """
    errors = _rms(first, second)
    some = max(1, len(errors) // 4)
    early, late = (float(np.sqrt(np.mean(np.square(part)))) + 0.01 for part in (errors[:some], errors[-some:]))
    return float(np.log2(late / early))


def _ssim(a: Float64[np.ndarray, "H W"], b: Float64[np.ndarray, "H W"]) -> float:
    def smooth(picture: Float64[np.ndarray, "H W"]) -> Float64[np.ndarray, "H W"]:
        return gaussian_filter(picture, SPREAD, radius=REACH)

    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    both = smooth(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    local = ((2 * mean_a * mean_b + c1) * (2 * both + c2)) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    inner = local[REACH:-REACH, REACH:-REACH]
    return float((inner if inner.size else local).mean())


def _rms(first: Video, second: Video) -> Float64[np.ndarray, " T"]:
    _check(first, second)
    return np.array([np.sqrt(np.mean(np.square(a.astype(np.float64) - b))) for a, b in _pairs(first, second)])


def _pairs(first: Video, second: Video) -> list[tuple[UInt8[np.ndarray, "H W C"], UInt8[np.ndarray, "H W C"]]]:
    return list(zip(first, second, strict=True))


def _check(first: Video, second: Video) -> None:
    if first.shape != second.shape:
        raise ValueError(f"two videos are compared frame by frame, in one size: got {first.shape} and {second.shape}")
