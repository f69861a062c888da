"""How many UCF-101 videos per hour a network makes: from prompts to files, by the code of the real run.

The weights are drawn, so the videos are noise and only their time means something. Scoring is not counted.
"""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler

from baselines.models.vidrd import VidRD
from bench.speed.memory_cell import SCHEDULER
from bench.speed.models import MODELS
from bench.studies.gpu_session.clip_time import vae_of
from bench.ucf101.generate import Generation
from bench.ucf101.plan import Precision, make_plan
from bench.ucf101.prompts import prompt_set
from vidrd.pipeline import VidRDPipeline
from vidrd.precision import DTYPES
from vidrd.text import small_text_encoder, word_tokenizer

CLIP = 8  # frames of the released network's clips
TOKENS, LAYERS, HEAD = 77, 23, 64  # of Stable Diffusion 2's text encoder: length, blocks, width of a head
PROTOCOL_VIDEOS = 10_000  # of the paper's protocol


@dataclass(frozen=True)
class VideoRate:
    """The time of videos from prompt to file.

    Args:
        videos: how many were made, `batch` at a time.
        seconds: of each batch; the first one, which compiles, is left out of the rate.
        fe: frame evaluations of a video.
    """

    model: str
    weights: str
    precision: str
    compiled: bool
    videos: int
    batch: int
    frames: int
    size: int
    steps: int
    fe: int
    seconds: tuple[float, ...]
    per_hour: float
    hours_for_10000: float


def video_rate(
    name: str,
    device: str,
    precision: Precision,
    folder: Path,
    *,
    videos: int,
    batch: int,
    compiled: bool,
    steps: int = 50,
    seconds: float | int = 3600,  # no batch is begun that may last longer
) -> VideoRate:
    """Make videos of protocol vidrd-10k in a folder and time them batch by batch."""
    pipe = drawn_pipeline(name, device, precision)
    size = MODELS[name].side * int(pipe.vae.downscale)
    plan = make_plan(
        "vidrd-10k", {"size": size, "steps": steps}, model={"folder": "drawn", "sha256": "drawn"}, clip=CLIP,
        precision=precision, batch=batch, compiled=compiled, limit=videos,
    )  # fmt: skip
    work = Generation(plan, "vidrd", "drawn", folder, plan.identity("vidrd")).using(VidRD(pipe, CLIP), device)
    began, taken = time.monotonic(), list[float]()
    for block in range(plan.blocks):
        before = time.monotonic()
        if len(taken) > 1 and before - began + taken[-1] > seconds:
            break
        work(block)  # waits for the device: the frames go into files
        taken.append(time.monotonic() - before)
    steady = taken[1:] or taken
    per_hour = batch * len(steady) / sum(steady) * 3600
    return VideoRate(
        model=name,
        weights="drawn at random: the videos are noise",
        precision=precision,
        compiled=compiled,
        videos=len(taken) * batch,
        batch=batch,
        frames=plan.settings.frames,
        size=size,
        steps=steps,
        fe=plan.fe("vidrd"),
        seconds=tuple(taken),
        per_hour=per_hour,
        hours_for_10000=PROTOCOL_VIDEOS / per_hour,
    )


def drawn_pipeline(name: str, device: str, precision: str) -> VidRDPipeline:
    """A whole pipeline of a size with drawn weights, its text encoder that of Stable Diffusion 2 where the size is."""
    dtype, width = DTYPES[precision], int(MODELS[name].all_config["cross_attention_dim"])
    full = name == "full"
    tokenizer = word_tokenizer(_words(), TOKENS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text: Any = small_text_encoder(tokenizer, width, LAYERS if full else 1, width // HEAD if full else 1)
    pipe = VidRDPipeline(
        vae=vae_of(name, device).to(dtype),
        text_encoder=text.to(device, dtype).eval(),
        tokenizer=tokenizer,
        unet=MODELS[name].unet(device, dtype),
        scheduler=DDIMScheduler.from_config(SCHEDULER),
        clip=CLIP,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _words() -> list[str]:
    prompts = prompt_set("descriptive").by_id.values()
    return sorted({word for prompt in prompts for word in re.findall(r"\w+|[^\w\s]+", prompt.text.lower())})
