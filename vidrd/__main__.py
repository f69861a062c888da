"""The command line of VidRD: make videos, build data sets, train. `python -m vidrd VERB --help` lists its options."""

import functools
import json
import operator
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from vidrd.command_line import (
    Count,
    CountOrNone,
    DeepTargetFolder,
    ExistingFile,
    ExistingFolder,
    FrameRate,
    Pixels,
    Positive,
    Scale,
    Seed,
    Share,
    TargetFile,
    TargetFolder,
    Weight,
    check,
    check_words,
    one_line_errors,
)
from vidrd.data.commands import Latents, Merge, Prepare, Watermark, latents, merge, prepare, watermark
from vidrd.entry import obey
from vidrd.files import write_atomic
from vidrd.training.launch import follow_launcher, launch
from vidrd.training.settings import Settings, Stopped

T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """Turn a prompt into a video."""

    prompt: str
    """What the video shows; "0: text | 40: other text" changes at frame 40."""
    out: Path
    """File (.mp4, .avi, .gif) or new folder of PNGs."""
    preset: str = "pocket"
    """Shipped pipeline; --model overrides it."""
    model: Path | None = None
    """Folder of a pipeline that save_pretrained or `train` wrote."""
    frames: Count | None = None
    """Frames of the video; default: the preset's, and those of --from."""
    start: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Video to continue (file or folder of PNGs): its frames come first, only center-cropped and resized."""
    overlap: CountOrNone = 4
    """Frames that each clip shares, reversed, with the previous one."""
    alpha: Weight = 4.0
    """Ratio of reused to fresh noise outside the overlap; 0: all noise is fresh."""
    beta: Share = 0.4
    """Share of the steps in which the first shared frame follows the previous clip."""
    join: Literal["keep", "drop_duplicate"] = "keep"
    """Keep or drop the frame that a clip repeats from the previous one."""
    compat: Literal["paper", "released"] = "paper"
    """The paper's equations, or the released code with its faults."""
    reverse: bool = True
    """With --no-reverse, clips continue forwards, and content does not cycle (use --join drop_duplicate with it)."""
    stages: Literal["linear", "constant"] = "linear"
    """Guidance of the overlap ends frame by frame (linear), or for all frames at the same step (constant)."""
    guide: Literal["hard", "blend"] = "hard"
    """Guided frames take the previous clip's states (hard), or blend from these to their own (blend)."""
    steps: Count | None = None
    """Denoising steps; default: the preset's."""
    guidance: float | None = None
    """Scale of classifier-free guidance; default: the preset's."""
    prompt_blend: CountOrNone = 4
    """Frames around a change of the prompt over which the two texts cross-fade; 0: none."""
    negative_prompt: str = ""
    """What the video should not show."""
    eta: Share = 0.0
    """Noise that each step adds: 0 is deterministic DDIM, 1 ancestral sampling."""
    seed: int = 0
    """Seed of the noise: the same seed gives the same video."""
    fps: FrameRate | None = None
    """Frames per second of the file."""
    scale: Scale | None = None
    """Factor by which the pixels are enlarged in the file."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision of the networks."""
    device: str = "auto"
    """Where the networks run: auto (the GPU, if there is one), cpu, cuda, cuda:1, ..."""
    compile: bool = False
    """Compile the U-Net with torch.compile: the first step is slow, later ones are faster."""
    batch_clips: Count = 1
    """Clips per network call: more are faster on a GPU, and take more memory."""
    solver: Literal["ddim", "dpmsolver++", "unipc"] = "ddim"
    """Solvers other than ddim are approximations, for which some 20 steps suffice."""
    reuse_every: Count = 1
    """Above 1: run the U-Net's inner stages only once in so many steps (an approximation)."""
    json: TargetFile | None = None
    """Also write the settings, seams and seconds to this file."""


@dataclass(frozen=True)
class Train:
    """Train a preset's networks from scratch, or (with --data) train a stage of a pipeline on a data set.

    Run the same command again to resume an interrupted training.
    """

    out: Path | None = None
    """Folder of the finished pipeline (default: the preset's own); with --data, folder of the run."""
    preset: Literal["pocket"] = "pocket"
    """What to train without --data."""
    work: Path = Path("runs/train-pocket")
    """Folder for logs and unfinished states."""
    steps_scale: Positive = 1.0
    """Share of the recipe's steps, for a trial run."""
    threads: Count | None = None
    """CPU threads; default: all cores."""
    processes: Count = 1
    """Processes of this machine that share each step of a stage, one per GPU. Over several machines: accelerate launch
    -m vidrd train."""
    settings: Annotated[Settings, tyro.conf.arg(name="")] = field(default_factory=Settings)


@dataclass(frozen=True)
class Export:
    """Write the current weights of a training run, finished or not, as a pipeline."""

    run: ExistingFolder
    """Folder of the run."""
    out: DeepTargetFolder
    """New folder of the pipeline."""
    state: ExistingFile | None = None
    """A state that the run has kept, such as its best.pt; default: the last one."""


@dataclass(frozen=True)
class Convert:
    """Make a VidRD pipeline from a Stable Diffusion 1 or 2 folder (diffusers layout) and, if given, the released files.

    Without --checkpoint, the image networks are inflated and the temporal layers are left untrained.
    """

    model: str
    """Folder of the image pipeline, or, with --revision, the id of a repository on a model hub."""
    out: DeepTargetFolder
    """New folder of the video pipeline."""
    checkpoint: ExistingFile | None = None
    """The released ModelT2V.pth, or its keys as .safetensors."""
    vae: ExistingFolder | None = None
    """The released folder vae_finetuned/; only with --checkpoint."""
    pins: ExistingFile | None = None
    """JSON with the sha256 that source files must have, such as the card.json of an earlier conversion."""
    revision: str | None = None
    """Revision of the repository."""
    fetch: bool = False
    """Download the repository if it is not on this machine; without this option nothing uses the network."""
    clip: Count = 8
    """Frames of a clip, which the U-Net denoises at once."""
    size: Pixels = 256
    """Height and width in pixels that the checkpoint's U-Net was trained on; only with --checkpoint."""
    temp_embed: bool = True
    """Add a sinusoidal embedding of the frame to the tokens, as the released network does."""


@dataclass(frozen=True)
class World:
    """Export real videos of the pocket world, with their captions in captions.jsonl."""

    out: TargetFolder
    """New folder."""
    count: Count = 24
    """Number of videos."""
    frames: Count = 16
    """Frames of each video."""
    size: Pixels = 32
    """Height and width in pixels."""
    format: Literal["mp4", "avi", "gif", "png"] = "mp4"
    """Format of the files; png: a folder of PNGs for each video."""
    first_seed: Seed = 10_000_000
    """Seed of the first scene; those below 1,000,000 are for training."""
    fps: FrameRate = 8
    """Frames per second."""
    scale: Scale = 4
    """Factor by which the pixels are enlarged."""


def sample(ask: Sample) -> None:
    """Sample and write one video."""
    # here, so that --help does not wait for torch
    from vidrd.checkpoints import PRESETS, load_pipeline  # noqa: PLC0415
    from vidrd.device import resolve_device  # noqa: PLC0415
    from vidrd.precision import DTYPES, why_emulated  # noqa: PLC0415
    from vidrd.sampling import Options  # noqa: PLC0415
    from vidrd.video import check_look, check_target, fitted, read_video, write_video  # noqa: PLC0415

    options = Options(
        ask.overlap, ask.alpha, ask.beta, ask.join, ask.compat, reverse=ask.reverse, stages=ask.stages, guide=ask.guide
    )
    check_target(ask.out)
    device = resolve_device(ask.device)
    if (emulated := why_emulated(ask.precision, device)) is not None:
        print(f"{emulated}: --precision fp32 is much faster", file=sys.stderr)
    preset = PRESETS.get(ask.preset)
    if preset is None and ask.model is None:
        raise ValueError(f"{ask.preset!r} is no preset: take {', '.join(PRESETS)}, or name a folder by --model")
    shown = preset if ask.model is None else None
    fps = given_or(ask.fps, shown.fps if shown else 8)
    scale = given_or(ask.scale, shown.scale if shown else 1)
    pipeline = load_pipeline(ask.model or ask.preset, dtype=DTYPES[ask.precision], device=device)
    side = pipeline.latent_shape[-1] * pipeline.vae.downscale
    check_look(ask.out, side, side, fps=fps, scale=scale)
    pipeline.set_progress_bar_config(disable=False, desc="denoising")
    past = None if ask.start is None else fitted(read_video(ask.start), side)
    usual = (shown.frames if shown else 2 * pipeline.config.clip) + (0 if past is None else past.shape[1])
    started = time.perf_counter()
    output = pipeline(
        ask.prompt,
        video=past,
        num_frames=given_or(ask.frames, usual),
        num_inference_steps=given_or(ask.steps, shown.steps if shown else 50),
        guidance_scale=given_or(ask.guidance, shown.guidance if shown else 10.0),
        negative_prompt=ask.negative_prompt,
        prompt_blend=ask.prompt_blend,
        options=options,
        eta=ask.eta,
        seed=ask.seed,
        compile=ask.compile,
        batch_clips=ask.batch_clips,
        solver=ask.solver,
        reuse_every=ask.reuse_every,
        output_type="uint8",
    )
    seconds = time.perf_counter() - started
    write_video(ask.out, output.frames[0], fps=fps, scale=scale)
    seams = [seam.frame for seam in output.result.seams]
    print(f"{ask.out}: {len(output.frames[0])} frames, seams at {seams}, {seconds:.1f} s")
    if ask.json:
        about = {key: str(value) if isinstance(value, Path) else value for key, value in vars(ask).items()}
        write_atomic(ask.json, json.dumps({"asked": about, "seams": seams, "seconds": seconds}, indent=1) + "\n")


def given_or(given: T | None, otherwise: T) -> T:
    """The given value, 0 included, or the default."""
    return otherwise if given is None else given


def train(ask: Train) -> int:
    """Train a preset, or a stage on a data set."""
    import torch  # noqa: PLC0415

    if ask.threads:
        torch.set_num_threads(ask.threads)
    if ask.settings.data or ask.settings.model:
        if ask.out is None:
            raise ValueError("training on a data set has a folder of its own for the run: name it by --out")
        return _train_on_data(ask, ask.out)
    if ask.processes > 1:
        raise ValueError(f"a preset is trained by one process: got --processes {ask.processes}")
    from vidrd.checkpoints import PRESETS  # noqa: PLC0415
    from vidrd.pocket.train import train_pocket  # noqa: PLC0415

    if ask.out is None and ask.steps_scale != 1:
        raise ValueError("a trial does not take the place of the preset's weights: name a folder by --out")
    out = given_or(ask.out, PRESETS[ask.preset].folder)
    if out.exists() and not (out / "model_index.json").is_file():
        raise ValueError(f"{out} would be replaced, and is no pipeline: name a new folder by --out")
    train_pocket(out, ask.work, steps_scale=ask.steps_scale)
    return 0


def _train_on_data(ask: Train, out: Path) -> int:
    """Train a stage in this process, or in several that it starts."""
    import torch  # noqa: PLC0415

    if ask.processes > 1 and "WORLD_SIZE" not in os.environ:
        gpus = torch.cuda.device_count()
        if 0 < gpus < ask.processes:
            raise ValueError(f"each process needs a GPU: got --processes {ask.processes} and {gpus} GPUs")
        on_cpu = {} if gpus else {"ACCELERATE_USE_CPU": "true"}
        return launch(ask.processes, ["-m", "vidrd", *sys.argv[1:]], on_cpu)
    follow_launcher()
    from vidrd.training.full import train_on_data  # noqa: PLC0415

    train_on_data(ask.settings, out)
    return 0


def export(ask: Export) -> None:
    """Store the averaged weights of a run's state as a pipeline."""
    from vidrd.training.full import export as write  # noqa: PLC0415

    print(f"{ask.out}: the pipeline after step {write(ask.run, ask.out, ask.state)}")


def convert(ask: Convert) -> None:
    """Convert released files, or inflate an image pipeline."""
    from vidrd.checkpoints import locate  # noqa: PLC0415
    from vidrd.released import convert_released, inflate_folder, read_pins  # noqa: PLC0415

    if ask.checkpoint is None and ask.vae:
        raise ValueError("--vae belongs to a released checkpoint: name it by --checkpoint")
    model = locate(ask.model, revision=ask.revision, fetch=ask.fetch)
    sources = {"model": ask.model, "revision": ask.revision or "none: a folder"}
    pins = read_pins(ask.pins) if ask.pins else None
    if ask.checkpoint is None:
        inflate_folder(model, ask.out, clip=ask.clip, add_temp_embed=ask.temp_embed, sources=sources, pins=pins)
        print(f"{ask.out}: an untrained video pipeline; its temporal layers are the identity")
        return
    card = convert_released(
        model,
        ask.checkpoint,
        ask.vae,
        ask.out,
        clip=ask.clip,
        size=ask.size,
        add_temp_embed=ask.temp_embed,
        sources=sources,
        pins=pins,
    )
    left = "".join(f"; left out {each['keys']} ({reason})" for reason, each in card["left_out"].items())
    print(f"{ask.out}: loaded {', '.join(f'{n} keys of {name}' for name, n in card['keys'].items())}{left}")


def world(ask: World) -> None:
    """Render and write scenes."""
    from vidrd.pocket.world import caption, draw_scene, render  # noqa: PLC0415
    from vidrd.video import check_look, write_video  # noqa: PLC0415

    if ask.out.exists():
        raise ValueError(f"cannot write videos to {ask.out}: name a new folder in one that exists")
    ending = f".{ask.format}" if ask.format != "png" else ""
    check_look(Path(f"video{ending}"), ask.size, ask.size, fps=ask.fps, scale=ask.scale)
    ask.out.mkdir()
    lines = []
    for seed in range(ask.first_seed, ask.first_seed + ask.count):
        scene = draw_scene(seed)
        name = f"{seed:08d}{ending}"
        video = render([scene], ask.frames, size=ask.size)[0]
        write_video(ask.out / name, video, fps=ask.fps, scale=ask.scale)
        lines.append(json.dumps({"file": name, "caption": caption(scene), "seed": seed}))
    write_atomic(ask.out / "captions.jsonl", "\n".join(lines) + "\n")
    print(f"{ask.out}: {ask.count} videos of {ask.frames} frames and captions.jsonl")


VERBS: dict[type, Callable] = {
    Sample: sample,
    Train: train,
    Prepare: prepare,
    Latents: latents,
    Watermark: watermark,
    Merge: merge,
    Export: export,
    Convert: convert,
    World: world,
}


HELP = (tyro.conf.DisallowNone,)  # an option that is not given has no word


def main() -> int:
    """Parse, call one function; see `vidrd.entry` for the exit codes."""
    return obey("vidrd", _do)


def _do() -> int:
    names = {kind.__name__.lower(): kind for kind in VERBS}
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    with one_line_errors():
        if verb in names:  # its options alone: those of all verbs take five times as long to set up
            ask: Any = tyro.cli(names[verb], prog=f"python -m vidrd {verb}", args=sys.argv[2:], config=HELP)
        else:
            every: Any = functools.reduce(
                operator.or_, (Annotated[kind, tyro.conf.subcommand(name)] for name, kind in names.items())
            )
            ask = tyro.cli(every, prog="python -m vidrd", description=__doc__, config=HELP)
    parts = [ask, *([ask.settings] if isinstance(ask, Train) else [])]
    for part in parts:
        check_words(type(part), sys.argv[2:])
    for part in parts:
        check(type(part), vars(part))
    try:
        return VERBS[type(ask)](ask) or 0
    except Stopped as stop:
        if os.environ.get("RANK", "0") == "0":  # of several processes one says it
            print(f"vidrd: {stop}", file=sys.stderr)
        return stop.code


if __name__ == "__main__":
    sys.exit(main())
