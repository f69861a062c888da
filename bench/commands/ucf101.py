"""`python -m bench ucf101`: plan, make, embed, score, and leave a table and a reproduction card."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from bench.results.option_types import Count, CountOrNone, ExistingFolder, Seed, TargetFolder, Weight
from bench.ucf101.standins import THIN

STANDIN = {
    "size": 16,
    "steps": 4,
    "fvd": ("styleganv",),
    "inception": ("styleganv",),
}  # unless the options say otherwise
SAMPLERS = {False: ("vidrd",), True: ("vidrd", "independent")}  # with stand-ins or not, unless --method says otherwise
STANDIN_FILES = ("i3d_torchscript.pt", "conv3d_deepnetA_ucf.npz", "mean2.npz")  # one for each network is enough


def ucf101(
    model: str | None = None,
    ucf101: ExistingFolder | None = None,
    weights: ExistingFolder | None = None,
    protocol: str = "vidrd-10k",
    method: tuple[str, ...] | None = None,
    videos: ExistingFolder | None = None,
    out: TargetFolder = Path("runs") / "ucf101",
    standin: bool = False,
    dry_run: bool = False,
    prompts: str | None = None,
    per_class: Count | None = None,
    limit: Count | None = None,
    size: Count | None = None,
    steps: Count | None = None,
    guidance: Weight | None = None,
    overlap: CountOrNone | None = None,
    seed: Seed | None = None,
    fvd: tuple[str, ...] | None = None,
    inception: tuple[str, ...] | None = None,
    allow_small: bool = False,
    allow_partial: bool = False,
    device: str = "auto",
    precision: Literal["fp32", "fp16", "bf16"] = "fp32",
    compile_: Annotated[bool, tyro.conf.arg(name="compile")] = False,
    batch: Count = 8,
    workers: Count | None = None,
    threads: Count = 1,
    ray: bool = False,
    shard: str | None = None,
    cache: TargetFolder | None = None,
) -> int:
    """Score zero-shot FVD and Inception Score on UCF-101 by a named protocol, next to the published rows.

    Makes the videos, embeds them and the real ones, scores them, and writes table.md, card.md and ucf101.json. The
    same command again does only what is missing or damaged. Nothing is downloaded: `python -m bench weights` lists the
    files.

    Args:
        model: Folder of a pipeline of any family of docs/models.md (`python -m vidrd convert` makes VidRD's), or a
            preset. Families that cannot make the protocol's length make the next longer one, and the rest is cut off.
        ucf101: Folder of the unpacked data set.
        weights: Folder with the weights of I3D and C3D, and C3D's mean clip.
        protocol: vidrd-10k, videopoet-10k, 100-a-class or styleganv-2048; see docs/ucf101.md.
        method: Samplers, each a row of the table (vidrd if not given); `python -m bench list` describes them.
        videos: Score the videos of this folder, of any model and with any names, instead of making some.
        out: The run's folder.
        standin: First make tiny stand-ins for what is not given of model, data and weights; the rest is the same code.
        dry_run: Measure a few batches in a temporary folder and print what the whole run will take.
        prompts: Other prompts: descriptive, class-name, class-name:TEMPLATE, or a .csv, .json or .txt.
        per_class: This many videos of each class, instead of the protocol's allocation.
        limit: Only the first videos, this many, in the order of the plan.
        size: Pixels of generated videos, if not the protocol's.
        steps: Denoising steps.
        guidance: Scale of classifier-free guidance.
        overlap: Frames that neighboring clips share.
        seed: Seed of the run.
        fvd: Rows of metrics.protocols.FVD to score by.
        inception: Rows of metrics.protocols.IS to score by.
        allow_small: Score sets that are too small for the score to mean much; the table says so.
        allow_partial: Accept an archive that lacks some videos; the table says so.
        device: cpu, cuda (workers share all GPUs) or cuda:1; auto: cuda where there is one.
        precision: Precision of the pipeline; the scoring networks always run in float32.
        compile_: Compile the U-Net with torch.compile: faster after a slow first batch; part of the plan, like batch.
        batch: Videos that go through a network together; part of the plan, because it may change last bits.
        workers: Processes; with --ray, most actors (1 if not given; with --standin, one per core, 4 at most).
        threads: Threads of each worker on a CPU; may change last bits.
        ray: Distribute the work over the Ray cluster that RAY_ADDRESS names, or over a local one.
        shard: I/N: do only every Nth batch, from the Ith on, and no score; for job arrays that share one --out.
        cache: Folder that keeps real statistics (default: in the user's cache folder).
    """
    # --help need not load torch.
    from bench.ucf101.archive import read_archive  # noqa: PLC0415
    from bench.ucf101.checks import check_before  # noqa: PLC0415
    from bench.ucf101.plan import Plan, make_plan  # noqa: PLC0415
    from bench.ucf101.pool import WorkerPool  # noqa: PLC0415
    from bench.ucf101.run import Run  # noqa: PLC0415

    thin = THIN if standin and weights is None else 1
    options = {
        "prompts": prompts, "size": size, "steps": steps, "guidance": guidance, "overlap": overlap, "seed": seed,
        "fvd": _words(fvd), "inception": _words(inception),
    }  # fmt: skip
    if standin:
        options = {**options, **{name: value for name, value in STANDIN.items() if options.get(name) is None}}
        per_class, allow_small, allow_partial = per_class or 2, True, True
        workers = workers or min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)

    def plan_for(model_card: Mapping[str, object], calls: Mapping[str, Any]) -> Plan:
        return make_plan(
            protocol, options, model=model_card, precision=precision, batch=batch, compiled=compile_,
            per_class=per_class, limit=limit, **calls,
        )  # fmt: skip

    if not standin and ucf101 is None:
        raise ValueError("real videos are needed: give --ucf101 FOLDER, the unpacked archive, or try --standin")
    if (model is not None and videos is not None) or (not standin and model is None and videos is None):
        raise ValueError("give --model FOLDER to make videos, or --videos FOLDER to score those of another model")
    model_card, calls = _model(model) if model is not None else ({"folder": None, "sha256": None}, {"clip": 8})
    methods = () if videos else _words(method) or SAMPLERS[standin]
    pool = WorkerPool(workers or 1, _devices(device), threads, ray)
    check_before(plan_for(model_card, calls), methods, pool, shard, model, allow_small=allow_small)
    if standin:
        model, ucf101, weights = _standin(out, model if videos is None else None, ucf101, weights, videos)
        model_card, calls = _model(model) if model is not None else (model_card, {"clip": 16})
    assert ucf101 is not None
    plan = plan_for(model_card, calls if model is not None else {"clip": 16})
    run = Run(
        plan=plan,
        pool=pool,
        archive=read_archive(ucf101, allow_partial=allow_partial),
        weights=weights,
        out=out,
        cache=_cache(cache, out, standin=standin),
        model=model,
        methods=methods,
        videos=videos,
        world="stand-in" if standin else "",
        allow_small=allow_small,
        thin=thin,
    )
    return run.print_estimate() if dry_run else run.do(shard)


def _model(name: str) -> tuple[dict[str, object], dict[str, Any]]:
    """Name and SHA-256 of a pipeline's folder, and its clip and frame rule for a plan, without loading its weights."""
    from baselines.models.families import VIDRD, outline, pipeline_of  # noqa: PLC0415
    from bench.hardware.machine import files_hash  # noqa: PLC0415
    from vidrd.checkpoints import PRESETS  # noqa: PLC0415

    folder = PRESETS[name].folder if name in PRESETS else Path(name)
    index = folder / "model_index.json"
    if not index.is_file():
        hint = "convert it first: python -m vidrd convert" if (folder / "ModelT2V.pth").is_file() else "give its folder"
        raise ValueError(f"{name} is no pipeline: it has no model_index.json; {hint}")
    card: dict[str, object] = {"folder": folder.name, "sha256": files_hash(["."], folder)}
    if pipeline_of(folder) == VIDRD:
        return card, {"clip": int(json.loads(index.read_text(encoding="utf-8")).get("clip", 8))}
    model = outline(str(folder))
    return card, {"clip": model.clip, "rule": model.rule}


def _standin(
    out: Path, model: str | None, ucf101: Path | None, weights: Path | None, videos: Path | None
) -> tuple[str | None, Path, Path]:
    """Model, archive and weights; tiny stand-ins, made once below the run's folder, for those that are None."""
    from bench.ucf101.standins.archive import make_archive  # noqa: PLC0415
    from bench.ucf101.standins.model import make_model  # noqa: PLC0415
    from bench.ucf101.standins.weights import make_weights  # noqa: PLC0415

    folder = out / "stand-ins"
    folder.mkdir(parents=True, exist_ok=True)

    def once(name: str, make: Callable[[Path], object]) -> Path:
        if not (folder / name).is_dir():
            part = folder / f".{name}.part"
            shutil.rmtree(part, ignore_errors=True)
            make(part)
            part.rename(folder / name)
        return folder / name

    archive = ucf101 or once("UCF101", lambda path: make_archive(path, height=120, width=160))
    files = once("weights", lambda path: make_weights(path, only=STANDIN_FILES, thin=THIN))
    if model is None and videos is None:
        model = str(once("model", lambda path: make_model(files, path)))
    return model, archive, weights or files


def _cache(cache: Path | None, out: Path, *, standin: bool) -> Path:
    from metrics.evaluation.cache import default_path  # noqa: PLC0415

    return cache or (out / "stand-ins" / "real" if standin else default_path().parent / "ucf101")


def _devices(device: str) -> tuple[str, ...]:
    import torch  # noqa: PLC0415

    from bench.hardware.device import named_device  # noqa: PLC0415

    device = str(named_device(device))
    if device != "cuda":
        return (device,)

    if not torch.cuda.is_available():
        raise ValueError("--device cuda: there is no CUDA device here; take cpu")
    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))


def _words(texts: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The words of an option whose values may also be joined by commas."""
    return None if texts is None else tuple(word for each in texts for word in each.split(",") if word)
