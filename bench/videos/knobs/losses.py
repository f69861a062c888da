"""What the videos of a setting lose against those of the plain model, of the same prompts and the same noise."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from bench.harness.suite_spec import Measure
from bench.results.records import InvalidError, Number
from metrics.intervals import mean_score
from metrics.similarity import error_growth, psnr, ssim

MADE = "made.npz"  # all videos and latents of a cell that others are compared with
ROUNDING = {"fp32": 1e-3, "bf16-weights": 1e-3}  # relative error of latents that is still rounding, after many steps
ROUGH = 0.1  # the same where the arithmetic is of 16 bits

LOSSES: dict[str, Measure] = {
    "psnr": Measure(
        "PSNR", "dB", "higher", "quality",
        "Peak signal-to-noise ratio against the plain model's video of the same prompt and noise: the mean over "
        "frames, then over videos; 100 for equal frames.",
    ),
    "ssim": Measure("SSIM", "", "higher", "quality", "Structural similarity of luma against the same, likewise."),
    "error_growth": Measure(
        "error growth", "log2", None, "quality",
        "log2 of the error in the last quarter of a video relative to that in the first: 0 = it does not grow, 1 = it "
        "doubles.",
    ),
    "latent_error": Measure(
        "latent error", "", "lower", "quality",
        "Root mean square difference of the latents from the plain model's, of their own root mean square. Where a "
        "sampler is chaotic, rounding alone can make it large.",
    ),
    "latent_shift": Measure(
        "latent shift", "", "lower", "quality",
        "The largest shift of a channel's mean or standard deviation over all latents, in standard deviations: other "
        "videos of the same distribution have next to none, however far their pixels are.",
    ),
}  # fmt: skip
FIRED: dict[str, Measure] = {
    "fired": Measure(
        "fired %", "%", None, "cost",
        "Share of the network's calls in which its step cache reused something, in one batch of its own. A cache that "
        "never fires is invalid.",
    ),
    "skipped": Measure("FLOPs saved %", "%", None, "cost", "Share of the network's FLOPs that its step cache saved."),
}  # fmt: skip
EFFICIENCY: dict[str, Measure] = {
    "efficiency": Measure(
        "scaling %", "%", "higher", "cost",
        "Scaling efficiency: how many times as fast a batch is, from prompts to frames, as the same settings on one "
        "device, by the number of devices.",
    )
}  # fmt: skip
SCALING: dict[str, Measure] = {
    "device_gain": Measure(
        "by devices", "x", "higher", "cost",
        "How many times as fast as the same settings on one device, from prompts to frames: trimmed mean of the ratios "
        "of batches of the same prompts, which were made in another process.",
    ),
    **EFFICIENCY,
}  # fmt: skip
NO_CACHE = "there is no step cache in this cell"
ONE_DEVICE = "one device makes each video of this cell"


class SettingVideos(NamedTuple):
    """All that a setting made, and the seconds of its batches."""

    videos: UInt8[np.ndarray, "N T H W C"]
    latents: Float[np.ndarray, "N c t h w"]
    seconds: tuple[float, ...] = ()


def save(made: SettingVideos, folder: Path) -> None:
    """Leave everything for the cells that are compared with this one."""
    np.savez(folder / MADE, allow_pickle=False, **made._asdict())


def load(folder: Path) -> SettingVideos:
    """What `save` left."""
    with np.load(folder / MADE, allow_pickle=False) as file:
        return SettingVideos(file["videos"], file["latents"], tuple(file["seconds"].tolist()))


def losses(exact: SettingVideos, other: SettingVideos) -> tuple[dict[str, Number], dict[str, tuple[float, ...]]]:
    """The measures of `LOSSES`, and the values of single videos."""
    pairs = list(zip(exact.videos, other.videos, strict=True))
    values = {
        "psnr": [float(psnr(a, b).mean()) for a, b in pairs],
        "ssim": [float(ssim(a, b).mean()) for a, b in pairs],
        "error_growth": [error_growth(a, b) for a, b in pairs],
        "latent_error": [latent_error(a, b) for a, b in zip(exact.latents, other.latents, strict=True)],
    }
    numbers = {name: _number(name, each) for name, each in values.items()}
    numbers["latent_shift"] = Number(latent_shift(exact.latents, other.latents), "", "lower", len(pairs))
    return numbers, {name: tuple(each) for name, each in values.items()}


def latent_error(exact: Float[np.ndarray, "..."], other: Float[np.ndarray, "..."]) -> float:
    """Root mean square difference, of the exact ones' root mean square."""
    whole = float(np.sqrt(np.mean(np.square(exact, dtype=np.float64))))
    return float(np.sqrt(np.mean(np.square(exact.astype(np.float64) - other)))) / whole


def latent_shift(exact: Float[np.ndarray, "N c t h w"], other: Float[np.ndarray, "N c t h w"]) -> float:
    """How far the mean or the standard deviation of a channel moves, in standard deviations."""
    rows = [np.moveaxis(each, 1, 0).reshape(each.shape[1], -1).astype(np.float64) for each in (exact, other)]
    (mean_a, std_a), (mean_b, std_b) = ((each.mean(axis=1), each.std(axis=1)) for each in rows)
    return float(np.max(np.maximum(np.abs(mean_b - mean_a), np.abs(std_b - std_a)) / np.maximum(std_a, 1e-12)))


def scaling(gain: Number, devices: int) -> dict[str, Number]:
    """The measures of `SCALING`, of how many times as fast so many devices are as one."""
    share = 100 / devices
    low, high = (None if end is None else share * end for end in (gain.low, gain.high))
    return {"device_gain": gain, "efficiency": Number(share * gain.value, "%", "higher", gain.n, low, high)}


def check_exact(numbers: dict[str, Number], settings: Sequence[str], precision: str) -> None:
    """Refuse settings that are said to compute the same and do not.

    Raises:
        InvalidError: the latents differ by more than rounding.
    """
    most = ROUNDING.get(precision, ROUGH)
    if numbers["latent_error"].value > most:
        raise InvalidError(
            f"{', '.join(settings)} should compute the same as the plain model: its latents differ by "
            f"{numbers['latent_error'].value:.2g} of their size, {most:g} is rounding"
        )


class CacheReuse(NamedTuple):
    """How often a cache reused something."""

    calls: int  # of the networks
    fired: int  # of them with less work than a whole call of that size
    skipped: float  # share of the FLOPs


def firing_numbers(firing: CacheReuse, setting: str) -> dict[str, Number]:
    """How often a step cache fired.

    Raises:
        InvalidError: never.
    """
    if not firing.fired:
        raise InvalidError(
            f"the step cache {setting} fired in none of {firing.calls} calls: its results are the exact ones, at a "
            "cost; give it a higher threshold, as in first-block:0.2, or more steps"
        )
    fired = 100 * firing.fired / firing.calls
    return {"fired": Number(fired, "%", n=firing.calls), "skipped": Number(100 * firing.skipped, "%", n=firing.calls)}


def _number(name: str, values: list[float]) -> Number:
    score, about = mean_score(values), LOSSES[name]
    low, high = score.low, score.high
    if high is not None and name in ("psnr", "ssim"):
        high = min(high, 100.0 if name == "psnr" else 1.0)
    return Number(score.value, about.unit, about.better, score.n, low, high)
