"""Videos of a plan: made in fixed batches, written to a temporary file and renamed, each with a line that describes it.

A block's lines appear together, after its files. A file that is missing or is not what its line says is made again,
with the neighbours it had: the bits are the same, whoever makes them.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from baselines.model_contract import Model
from baselines.models.families import load_model
from bench.methods import METHODS
from bench.results.records import write_atomic
from bench.ucf101.features import file_hash
from bench.ucf101.plan import Plan, PlannedVideo
from bench.videos.generator import CountingDenoiser
from vidrd.checkpoints import sha256
from vidrd.precision import DTYPES
from vidrd.sampler_contract import Request
from vidrd.video import write_video

VIDEOS = "videos"
LINES = "lines"  # one file a block
MANIFEST = "videos.jsonl"  # all lines in the order of the items


@dataclass(frozen=True)
class Generation:
    """The job of one method's videos."""

    plan: Plan
    method: str
    model: str  # a preset, or a folder that `save_pretrained` of a family's pipeline wrote
    out: Path  # of this method
    identity: str  # of the method's plan: `Plan.identity`, which takes a while

    def open(self, device: str) -> Callable[[int], None]:
        """Load the model."""
        return self.using(load_model(self.model, dtype=DTYPES[self.plan.precision], device=device), device)

    def using(self, model: Model, device: str) -> Callable[[int], None]:
        """What makes one block with a model that is loaded."""
        return lambda block: self._make(model, device, block)

    def is_done(self, block: int) -> bool:
        """Whether every file of the block is what its line says."""
        return self.lines(block) is not None

    def lines(self, block: int) -> list[dict[str, Any]] | None:
        """What is known of a block's videos; None if one is missing, damaged or another."""
        checked = [self._line(line) for line in self._read(block)]
        whole = [line for line in checked if line is not None]
        items = self.plan.block(block)
        return whole if [line["file"] for line in whole] == [item.file for item in items] else None

    def missing(self) -> list[str]:
        """Items that are not there, by file."""
        gone = []
        for block in range(self.plan.blocks):
            if self.is_done(block):
                continue
            good = {line["file"] for line in self._read(block) if self._line(line)}
            gone += [item.file for item in self.plan.block(block) if item.file not in good]
        return gone

    def collect(self) -> list[dict[str, Any]]:
        """The lines of all items in their order, also written to one file.

        Raises:
            ValueError: items are missing; the message names them.
        """
        gone = self.missing()
        if gone:
            some = ", ".join(gone[:5]) + (f" and {len(gone) - 5} more" if len(gone) > 5 else "")
            raise ValueError(
                f"{len(gone)} of {len(self.plan.items)} videos of {self.method} are missing or damaged ({some}): "
                f"there is no score without them; the same command without --shard makes them"
            )
        lines = [line for block in range(self.plan.blocks) for line in self.lines(block) or ()]
        write_atomic(self.out / MANIFEST, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        return lines

    def _read(self, block: int) -> list[dict[str, Any]]:
        """The lines of a block as they were written; none where there are none that can be read."""
        try:
            lines = [json.loads(line) for line in self._path(block).read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError):
            return []
        return lines if all(isinstance(line, dict) for line in lines) else []

    def _line(self, line: dict[str, Any]) -> dict[str, Any] | None:
        """The line, if its file is whole and was made for this plan."""
        path = self.out / VIDEOS / str(line.get("file"))
        if line.get("identity") != self.identity or not path.is_file():
            return None
        if path.stat().st_size != line.get("bytes") or file_hash(path) != line.get("sha256"):
            return None
        return line

    def _path(self, block: int) -> Path:
        return self.out / LINES / f"{block:06}.jsonl"

    def _make(self, model: Model, device: str, block: int) -> None:
        items = self.plan.block(block)
        good = {line["file"]: line for line in self._read(block) if self._line(line)}
        began = time.perf_counter()
        videos = sample(model, self.plan, self.method, items, device)
        seconds = (time.perf_counter() - began) / len(items)
        lines = []
        for item, video in zip(items, videos, strict=True):
            path = self.out / VIDEOS / item.file
            if item.file not in good:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_video(path, video, fps=self.plan.settings.fps)
                good[item.file] = {
                    **{"file": item.file, **{k: v for k, v in asdict(item).items() if k != "prompt"}},
                    "sha256": sha256(path),
                    "frames_sha256": hashlib.sha256(video.tobytes()).hexdigest(),
                    "bytes": path.stat().st_size,
                    "shape": list(video.shape),
                    "seconds": round(seconds, 4),
                    "device": device_name(device),
                    "identity": self.identity,
                }
            lines.append(good[item.file])
        self._path(block).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self._path(block), "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def sample(model: Model, plan: Plan, method: str, items: tuple[PlannedVideo, ...], device: str) -> Any:
    """One batch of videos, B T H W C uint8: the first frames of as many as the model can make.

    Raises:
        ValueError: the sampler made other calls than its plan says, or pixels that are not finite.
    """
    settings = plan.settings
    prompts = [item.prompt for item in items]
    bind = partial(model.pipe.denoiser, compile=True) if plan.compiled else model.denoiser
    denoise = CountingDenoiser(bind(prompts, guidance=settings.guidance), len(items))
    shape = model.latent_shape(settings.size, settings.size)
    request = Request(plan.frames, model.clip, shape, tuple(item.seed for item in items))
    options = plan.options(method)
    windows = METHODS[method].plan(request, settings.steps, options).windows
    call = max(stop - start for start, stop in windows), *shape[1:]
    schedule = model.schedule(settings.steps, model.solver, call)
    result = METHODS[method].sample(denoise, schedule, request, options, device=device, dtype=model.dtype)
    if denoise.fe != result.plan.fe:
        raise ValueError(f"{method} made {denoise.fe} frame evaluations where its plan says {result.plan.fe}")
    return model.decode(result.latents, clip=model.clip)[:, : settings.frames]


def device_name(device: str) -> str:
    """Its kind, and of a GPU its model: bits are equal within one kind only."""
    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    return device
