"""`python -m bench sample`: one prompt by several methods, a video file of each."""

import sys
from typing import Annotated, Literal

import tyro

from bench.results.option_types import Count, CountOrNone, Seed, TargetFolder
from vidrd.command_line import FrameRate, Scale

SIDE_BY_SIDE = "side-by-side"


def sample(
    prompt: str,
    out: TargetFolder,
    method: tuple[str, ...] = ("vidrd", "vidrd-forwards", "independent", "codenoise"),
    model: str = "pocket",
    revision: str | None = None,
    frames: Count | None = None,
    from_: Annotated[str | None, tyro.conf.arg(name="from", metavar="PATH")] = None,
    overlap: CountOrNone | None = None,
    steps: Count | None = None,
    equal: Literal["steps", "fe"] = "steps",
    guidance: float | None = None,
    negative_prompt: str = "",
    prompt_blend: CountOrNone = 4,
    seed: Seed = 0,
    height: Count | None = None,
    width: Count | None = None,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    device: str = "auto",
    format_: Annotated[Literal["mp4", "avi", "gif", "mkv", "png"], tyro.conf.arg(name="format")] = "mp4",
    fps: FrameRate | None = None,
    scale: Scale | None = None,
) -> int:
    """Make a video of one prompt by each method, from the same noise, without scores; and one of all side by side.

    Every method is checked before the first one runs. `python -m bench list` describes the methods, `run` measures
    them.

    Args:
        prompt: What the video shows; "0: text | 40: other text" changes at frame 40.
        out: Folder of the videos: one METHOD.mp4 for each and, of several, side-by-side.mp4 with all of them from left
            to right and from top to bottom. Files of the same names are replaced.
        method: The methods to use.
        model: A preset, a folder of a pipeline, or the id of a repository that is here.
        revision: Revision of the repository.
        frames: Frames of the video; if not given, of two clips (after those of --from).
        from_: Video to continue (file or folder of PNGs), for methods and models that can.
        overlap: Frames that clips or windows share; half a clip if not given.
        steps: Denoising steps; the preset's, or 50.
        equal: All methods take --steps steps; or (fe) as many as cost what independent clips of --steps steps cost.
        guidance: Scale of classifier-free guidance; the preset's or the model's if not given.
        negative_prompt: What to steer away from.
        prompt_blend: Frames around a change of the prompt in which both texts count.
        seed: Seed of the noise: the same seed gives the same videos.
        height: Pixels; the model's own if not given.
        width: Pixels, likewise.
        precision: Precision of the networks.
        device: Where they run: auto (the GPU where there is one), cpu, cuda, cuda:1, ...
        format_: Of the files; png is a folder of PNGs for each method.
        fps: Frames per second of the files; the model's if not given.
        scale: Enlargement of the pixels in the files; the preset's, or 1.
    """
    # here, so that --help does not wait for torch
    from baselines.models.families import load_model  # noqa: PLC0415
    from bench.videos.one_prompt import make_videos, plan_methods, request_one, side_by_side  # noqa: PLC0415
    from vidrd.checkpoints import PRESETS  # noqa: PLC0415
    from vidrd.device import resolve_device  # noqa: PLC0415
    from vidrd.precision import DTYPES, why_emulated  # noqa: PLC0415
    from vidrd.prompt_schedule import read_prompts  # noqa: PLC0415
    from vidrd.video import check_look, check_target, fitted, read_video, write_video  # noqa: PLC0415

    place, preset = resolve_device(device), PRESETS.get(model)
    if (emulated := why_emulated(precision, place)) is not None:
        print(f"{emulated}: --precision fp32 is much faster", file=sys.stderr)
    network = load_model(model, revision=revision, dtype=DTYPES[precision], device=place)
    shape = network.latent_shape(height, width)
    rate, enlarged = fps or round(network.fps), scale or (preset.scale if preset else 1)
    names = [*method, *([SIDE_BY_SIDE] if len(method) > 1 else [])]
    files = {name: out / f"{name}{'' if format_ == 'png' else f'.{format_}'}" for name in names}
    for file in files.values():
        if out.is_dir():
            check_target(file)
        check_look(file, shape[1] * network.scale, shape[2] * network.scale, fps=rate, scale=enlarged)
    given = None if from_ is None else fitted(read_video(from_), shape[1] * network.scale)[0]
    request = request_one(network, shape, seed, frames, given)
    read_prompts([prompt], network.rule.frames(request.frames))
    most = steps or (preset.steps if preset else 50)
    planned = plan_methods(method, network, request, most, overlap=overlap, equal_fe=equal == "fe")
    weight = preset.guidance if preset and guidance is None else guidance
    denoise = network.denoiser([prompt], negative=negative_prompt, guidance=weight, blend=prompt_blend)
    out.mkdir(exist_ok=True)
    videos = []
    for made in make_videos(planned, network, denoise, request, given):
        write_video(files[made.name], made.frames, fps=rate, scale=enlarged)
        cost = f"{made.steps} steps, fe/frame {made.fe_per_frame:.4g}, {made.seconds:.1f} s"
        print(f"{files[made.name]}: {len(made.frames)} frames, seams at {made.seams}, {cost}", flush=True)
        videos.append(made.frames)
    if SIDE_BY_SIDE in files:
        write_video(files[SIDE_BY_SIDE], side_by_side(videos), fps=rate, scale=enlarged)
        print(f"{files[SIDE_BY_SIDE]}: {', '.join(method)}, row by row")
    return 0
