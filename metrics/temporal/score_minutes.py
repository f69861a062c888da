"""The measures of long video (`metrics.temporal.minutes`) on the features of every frame of a folder's videos."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from jaxtyping import Float, Float64

from metrics.evaluation.collectors import ChosenClips, FrameRows
from metrics.evaluation.measure import Collector, Measure
from metrics.networks.folder import WeightsFolder
from metrics.networks.vision import VisionFeatures
from metrics.temporal import minutes
from metrics.text.alignment import text_of, viclip_texts
from metrics.text.clip_score import cosines
from metrics.text.prompts import Prompt
from metrics.vbench.formulas import consistency
from metrics.videos.read import VideoInfo

Rows = Float[np.ndarray, "T F"]
LONG = 2 * minutes.CHUNKS  # frames of which chunks have something to compare


def loaders(
    weights: WeightsFolder, window: int | None, prompts: Mapping[str, Prompt] | None
) -> dict[str, Callable[[], Measure]]:
    """A function for every measure, which loads what it needs and raises ValueError where it cannot."""
    loads: dict[str, Callable[[], Measure]] = {}
    if window is not None:
        loads |= {
            "color_step": partial(_of_colors, "color_step", minutes.color_step, window),
            "saturation_step": partial(_of_colors, "saturation_step", minutes.saturation_step, window),
            "seam_color_step": partial(_of_colors, "seam_color_step", minutes.seam_color_step, window),
        }
    dino = partial(getattr, weights, "dino")
    loads |= {f"similarity_gap:{gap}": partial(_of_gap, dino, gap) for gap in minutes.GAPS}
    loads["identity"] = partial(_of_rows, "identity", dino, _identity, 2)
    loads["identity:end"] = partial(_of_rows, "identity:end", dino, _identity_end, 2)
    loads |= _chunked("subject", dino, lambda rows: _by_chunk(rows, lambda part: float(consistency(part).mean())), LONG)
    if prompts is not None:
        loads["start_end_drift:semantic"] = partial(_semantic, weights, prompts)
    for name, network, most in (("aesthetic", "aesthetic", 10.0), ("imaging", "musiq", 100.0)):
        of_frames, ends = partial(getattr, weights, network), partial(_ends, most=most)
        loads[f"start_end_drift:{name}"] = partial(_of_rows, f"start_end_drift:{name}", of_frames, ends, 2)
        loads |= _chunked(name, of_frames, partial(_chunks, most=most), minutes.CHUNKS)
    return loads


def _chunked(
    name: str,
    network: Callable[[], VisionFeatures],
    chunks: Callable[[Rows], Float64[np.ndarray, " N"]],
    frames: int,
) -> dict[str, Callable[[], Measure]]:
    """VDE as published and repaired, of one number per chunk."""

    def published(rows: Rows) -> float:
        value = minutes.vde(chunks(rows))
        if not np.isfinite(value):
            raise ValueError(f"vde:{name} is infinite, as its first chunk is 0: read chunk_drift:{name}")
        return value

    def repaired(rows: Rows) -> float:
        return minutes.drift_of_chunks(chunks(rows))

    formulas = {f"vde:{name}": published, f"chunk_drift:{name}": repaired}
    return {full: partial(_of_rows, full, network, formula, frames) for full, formula in formulas.items()}


def _semantic(weights: WeightsFolder, prompts: Mapping[str, Prompt]) -> Measure:
    """HeliosBench's |cos(start, prompt) - cos(end, prompt)| of ViCLIP on 8 frames of either end."""
    network, texts = weights.viclip, viclip_texts(weights, prompts)

    def begin(info: VideoInfo) -> Collector:
        return ChosenClips(network, minutes.semantic_frames(info.frames))

    def score(rows: Rows, info: VideoInfo, video: str) -> float:
        start, end = cosines(rows, text_of(video, texts))
        return abs(float(start - end))

    return Measure("start_end_drift:semantic", {**network.recipe, "rows": "8 of either end"}, begin, score, 8)


def _by_chunk(rows: Rows, formula: Callable[[Rows], float]) -> Float64[np.ndarray, " N"]:
    size = len(rows) // minutes.CHUNKS
    return np.array([formula(rows[i * size : (i + 1) * size]) for i in range(minutes.CHUNKS)])


def _of_rows(
    name: str, network: Callable[[], VisionFeatures], formula: Callable[[Rows], float], frames: int
) -> Measure:
    features = network()
    return Measure(
        name, features.recipe, lambda info: FrameRows(features.rows), lambda rows, info, video: formula(rows), frames
    )


def _of_gap(network: Callable[[], VisionFeatures], gap: int) -> Measure:
    formula = partial(minutes.similarity_against_gap, gap=gap)
    return _of_rows(f"similarity_gap:{gap}", network, formula, gap + 1)


def _of_colors(name: str, formula: Callable[[Rows, int], float], window: int) -> Measure:
    def score(rows: Rows, info: VideoInfo, video: str) -> float:
        return formula(rows, window)

    return Measure(name, {"rows": "mean colors"}, lambda info: FrameRows(minutes.frame_colors), score, 2 * window)


def _identity(rows: Rows) -> float:
    return float(minutes.identity_against_first(rows).mean())


def _identity_end(rows: Rows) -> float:
    return float(minutes.identity_against_first(rows)[-minutes.end_frames(len(rows)) :].mean())


def _ends(rows: Rows, most: float) -> float:
    return minutes.start_against_end(rows[:, 0] / most)


def _chunks(rows: Rows, most: float) -> Float64[np.ndarray, " N"]:
    return minutes.chunk_means(rows[:, 0] / most)
