"""What the temporal layers of the pocket model are worth: the same network with and without them, clip by clip.

    python -m bench.studies.temporal_layers --videos 512 --json-file ablation.json

Prompts, noise, schedule and guidance are the same on both sides, and so are all other weights, so the difference of the
two distances is paired: captions are left out of the real videos and of both sides at once.
"""

import copy
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import tyro
from jaxtyping import UInt8

from metrics.distribution.frechet import Gaussian, frechet_distance
from metrics.evaluation.progress import Progress, ProgressPrinter
from metrics.networks.features import extract
from metrics.networks.pocket import load_shipped
from metrics.paired import matched_frechet_difference
from metrics.score import Score
from vidrd.checkpoints import load_pipeline
from vidrd.entry import obey
from vidrd.files import write_atomic
from vidrd.models.blocks import TemporalConv, TransformerBlock, start_at_zero
from vidrd.pipeline import VidRDPipeline
from vidrd.pocket.world import ATTRIBUTES, TEST_SEEDS, Scene, caption, draw_scene, render

BATCH = 32  # videos


def silenced(pipeline: VidRDPipeline, *, unet: bool = False, decoder: bool = False) -> VidRDPipeline:
    """The same pipeline with the temporal layers of some networks reset to the identity, as before their training."""
    parts = {**pipeline.components, "unet": copy.deepcopy(pipeline.unet), "vae": copy.deepcopy(pipeline.vae)}
    for network, wanted in ((parts["unet"], unet), (parts["vae"], decoder)):
        for layer in network.modules() if wanted else ():
            if isinstance(layer, TemporalConv):
                start_at_zero(layer.convs[-1])
            elif isinstance(layer, TransformerBlock):
                start_at_zero(layer.temp_attn.to_out)
    other = VidRDPipeline(**parts, clip=pipeline.config.clip)
    other.set_progress_bar_config(disable=True)
    return other


def make(
    name: str, pipeline: VidRDPipeline, scenes: list[Scene], steps: int, guidance: float
) -> UInt8[np.ndarray, "N T H W C"]:
    """One clip for each scene's caption, with the noise of its number. `name` appears in the progress line."""
    parts, printer, began = [], ProgressPrinter(), time.monotonic()
    for first in range(0, len(scenes), BATCH):
        some = scenes[first : first + BATCH]
        result = pipeline(
            [caption(scene) for scene in some], num_frames=pipeline.config.clip, num_inference_steps=steps,
            guidance_scale=guidance, seed=first, output_type="uint8",
        )  # fmt: skip
        parts.append(result.frames)
        printer(name, Progress(first + len(some), len(scenes), 0, time.monotonic() - began))
    return np.concatenate(parts)


def compare(videos: int, steps: int, guidance: float) -> Mapping[str, Score]:
    """Distances to real video of the same captions, with and without, and their paired differences."""
    pipeline = load_pipeline("pocket")
    classifier = load_shipped("i3d")
    scenes = [draw_scene(TEST_SEEDS[i]) for i in range(videos)]
    attributes = [{name: str(getattr(scene, name)) for name in ATTRIBUTES} for scene in scenes]
    real = [draw_scene(TEST_SEEDS[-1 - i], **attributes[i % videos]) for i in range(2 * videos)]
    number = np.arange(videos)
    rows = {"real": extract(classifier, render(real, pipeline.config.clip)).embedding}
    sides = {
        "with temporal layers": pipeline,
        "U-Net without them": silenced(pipeline, unet=True),
        "decoder without them": silenced(pipeline, decoder=True),
    }
    for name, side in sides.items():
        with torch.no_grad():
            rows[name] = extract(classifier, make(name, side, scenes, steps, guidance)).embedding
    scores = {}
    first = next(iter(sides))
    for name in sides:
        scores[name] = Score(frechet_distance(Gaussian.of(rows["real"]), Gaussian.of(rows[name])), videos)
        if name != first:
            scores[f"{name}: difference"] = matched_frechet_difference(
                rows["real"], rows[first], rows[name], np.tile(number, 2), number, number
            )
    return scores


def main(videos: int = 512, steps: int = 20, guidance: float = 2.0, json_file: Path | None = None) -> None:
    """Compare the shipped pocket model with itself without its temporal layers."""
    scores = compare(videos, steps, guidance)
    for name, score in scores.items():
        interval = "" if score.low is None else f"  [{score.low:.2f}, {score.high:.2f}]"
        print(f"{name:<34} FVD {score.value:8.2f}{interval}  (pocket, n {score.n})")
    if json_file:
        records = {name: score.as_record() for name, score in scores.items()}
        write_atomic(json_file, json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(obey("bench.studies.temporal_layers", lambda: tyro.cli(main)))
