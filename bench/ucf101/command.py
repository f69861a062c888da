"""`python -m bench ucf101`: plan, make, embed, score, and leave a table and a reproduction card."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.record import write_atomic

if TYPE_CHECKING:  # --help need not load torch
    from bench.ucf101.archive import Archive
    from bench.ucf101.blocks import Crew, Done, Job
    from bench.ucf101.estimate import Stage
    from bench.ucf101.features import Embedding, Judge
    from bench.ucf101.generate import Generation
    from bench.ucf101.plan import Plan
    from metrics.features import FeatureNetwork
    from metrics.result import Result
    from metrics.sets import Side

ESTIMATE = "estimate.json"
STANDIN = {"size": 16, "steps": 4, "fvd": ("styleganv",), "inception": ("styleganv",)}  # unless asked otherwise
STANDIN_FILES = ("i3d_torchscript.pt", "conv3d_deepnetA_ucf.npz", "mean2.npz")  # one for each network is enough


def ucf101(
    model: str | None = None,
    ucf101: Path | None = None,
    weights: Path | None = None,
    protocol: str = "vidrd-10k",
    method: tuple[str, ...] = ("vidrd",),
    videos: Path | None = None,
    out: Path = Path("runs") / "ucf101",
    standin: bool = False,
    dry_run: bool = False,
    prompts: str | None = None,
    per_class: int | None = None,
    limit: int | None = None,
    size: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    overlap: int | None = None,
    seed: int | None = None,
    fvd: tuple[str, ...] | None = None,
    inception: tuple[str, ...] | None = None,
    allow_small: bool = False,
    allow_partial: bool = False,
    device: str = "cpu",
    precision: Literal["fp32", "fp16", "bf16"] = "fp32",
    batch: int = 8,
    workers: int = 1,
    threads: int = 1,
    ray: bool = False,
    shard: str | None = None,
    cache: Path | None = None,
) -> int:
    """Zero-shot FVD and Inception Score on UCF-101 under a named protocol, beside the published rows.

    Makes the videos, embeds them and the real ones, scores, and writes table.md, card.md and ucf101.json. The same
    command again does only what is missing or damaged. Nothing is downloaded: `python -m bench weights` lists the
    files.

    Args:
        model: Folder of a VidRD pipeline (`python -m vidrd convert` makes one), or a preset.
        ucf101: The unpacked archive.
        weights: Folder with I3D, C3D and C3D's mean.
        protocol: vidrd-10k, videopoet-10k, 100-a-class or styleganv-2048; see docs/ucf101.md.
        method: Samplers, each a row of the table; `python -m bench list` names them.
        videos: Score the videos of this folder instead of making some; any model's, named in any way.
        out: The run's folder.
        standin: Without model, data and weights: tiny ones are made first, the rest is the same code.
        dry_run: Measure a few blocks, print what the whole run will take, and leave nothing.
        prompts: Other prompts: descriptive, class-name, class-name:TEMPLATE, or a .csv, .json or .txt.
        per_class: So many videos of each class, instead of the protocol's allocation.
        limit: Only the first so many videos of the plan's order.
        size: Pixels of generated videos, if not the protocol's.
        steps: Denoising steps.
        guidance: Weight of the text.
        overlap: Frames that clips share.
        seed: Of the run.
        fvd: Rows of metrics.protocols.FVD to score by.
        inception: Rows of metrics.protocols.IS to score by.
        allow_small: Score sets that are too small for the score to mean much; the table says so.
        allow_partial: Take an archive of which only some videos are there; the table says so.
        device: cpu, cuda (workers share all GPUs) or cuda:1.
        precision: Of the pipeline; the scoring networks always run in float32.
        batch: Videos that go through a network together; part of the plan, as it may change last bits.
        workers: Processes, or with --ray actors at most.
        threads: Of each worker on a CPU; may change last bits.
        ray: Share the work on the running Ray cluster (RAY_ADDRESS), or one of this machine.
        shard: I/N: only every Nth block from the Ith on, and no score; for arrays of jobs that see one --out.
        cache: Folder that keeps real statistics (default: in the user's cache folder).
    """
    from bench.ucf101.blocks import Crew  # noqa: PLC0415 - loads torch

    if standin:
        model, ucf101, weights = _standin(out, model if videos is None else None, ucf101, weights, videos)
    asked = {
        "prompts": prompts, "size": size, "steps": steps, "guidance": guidance, "overlap": overlap, "seed": seed,
        "fvd": _words(fvd), "inception": _words(inception),
    }  # fmt: skip
    if standin:
        asked = {**asked, **{name: value for name, value in STANDIN.items() if asked.get(name) is None}}
        per_class, allow_small, allow_partial = per_class or 2, True, True
    if ucf101 is None:
        raise ValueError("real videos are needed: give --ucf101 FOLDER, the unpacked archive, or try --standin")
    if (model is None) == (videos is None):
        raise ValueError("give --model FOLDER to make videos, or --videos FOLDER to score those of another model")
    crew = Crew(workers, _devices(device), threads, ray)
    plan = _plan(protocol, asked, model, per_class=per_class, limit=limit, precision=precision, batch=batch)
    run = Run(
        plan=plan,
        crew=crew,
        archive=_archive(ucf101, partial=allow_partial),
        weights=weights,
        out=out,
        cache=_cache(cache, out, standin=standin),
        model=model,
        methods=() if videos else tuple(_words(method) or ()),
        videos=videos,
        world="stand-in" if standin else "",
        allow_small=allow_small,
    )
    return run.foretell() if dry_run else run.do(shard)


@dataclass(frozen=True)
class Run:
    """All that a run needs, checked."""

    plan: "Plan"
    crew: "Crew"
    archive: "Archive"
    weights: Path | None
    out: Path
    cache: Path
    model: str | None
    methods: tuple[str, ...]
    videos: Path | None
    world: str
    allow_small: bool

    def do(self, shard: str | None) -> int:
        """Make, embed and score what is not done; or only a share of it, unscored."""
        from bench.ucf101.score import made_sources  # noqa: PLC0415

        networks = self.networks()
        made = self.generations()
        clock = _Clock()
        _say(self.title())
        for each in made:
            self.begin(each)
            self.work(f"videos of {each.method}", each, each.plan.blocks, each.plan.batch, shard)
            clock.lap(f"videos of {each.method}")
        real = self.real_jobs(networks)
        for judge, job in real.items():
            self.work(f"real, {judge.name}", job, job.blocks, judge.batch, shard)
            clock.lap(f"real, {judge.name}")
        results: dict[str, dict[str, Result]] = {}
        about: dict[str, dict[str, object]] = {}
        sides = {} if shard else self.real_sides(real, networks)
        for name, each in [(each.method, each) for each in made] or [(self.name(), None)]:
            if each is not None and shard:
                sources = made_sources(each, _share(shard, each.plan.blocks))
            elif each is not None:
                about[name] = self.account(each, each.collect())
                sources = made_sources(each)
            else:
                sources = self.given()
                about[name] = {"videos": str(self.videos), "n": len(sources)}
            for judge, network in networks.items():
                job = self.job(sources, "fake", judge, network, self.out / name / "features")
                self.work(f"{name}, {judge.name}", job, job.blocks, judge.batch, shard)
                clock.lap(f"{name}, {judge.name}")
                if not shard:
                    fake = job.side({"seed": self.plan.settings.seed, "listed": None})
                    results.setdefault(name, {})[judge.name] = self.score(judge, network, sides.get(judge), fake)
                    clock.lap("scores")
        if shard:
            _say(f"shard {shard} is done; the same command without --shard scores when all are")
            return 0
        for name, found in results.items():
            for key, result in found.items():
                write_atomic(self.out / name / f"{key.replace(':', '-')}.json", result.to_json())
        return self.tell(results, about, networks, clock.laps)

    def foretell(self) -> int:
        """Measure a few blocks of every stage and print what the whole will take."""
        from bench.ucf101 import estimate  # noqa: PLC0415

        networks, stages = self.networks(), list[Stage]()
        with estimate.scratch_folder() as folder:
            scratch = Path(folder)
            _say(f"{self.title()}\nmeasuring a few blocks of each stage")
            trials = {}
            for each in self.generations():
                stage, trials[each.method] = estimate.generation(each, self.crew, _say, scratch)
                stages.append(stage)
            for judge, job in self.real_jobs(networks).items():
                stages.append(estimate.features(f"real, {judge.name}", job, self.crew, _say, scratch))
            for name, sources in (trials or {self.name(): None}).items():
                for judge, network in networks.items():
                    whole = self.given() if sources is None else tuple(sources)
                    job = self.job(whole, "fake", judge, network, self.out / name / "features")
                    stage = estimate.features(f"{name}, {judge.name}", job, self.crew, _say, scratch)
                    stages.append(
                        stage
                        if sources is None
                        else estimate.scaled(stage, len(self.plan.items), self.crew, judge.batch)
                    )
        found = estimate.as_dict(stages, self.crew)
        self.out.mkdir(parents=True, exist_ok=True)
        write_atomic(self.out / ESTIMATE, json.dumps(found, indent=1) + "\n")
        print(estimate.as_text(stages, self.crew))
        return 0

    def title(self) -> str:
        """One line that says what will be done."""
        words = f"{len(self.plan.items)} videos by {', '.join(self.methods)}" if self.methods else f"{self.videos}"
        changes = f"; changed: {'; '.join(self.plan.changes)}" if self.plan.changes else ""
        return f"{self.plan.protocol}: {words}{changes}"

    def name(self) -> str:
        """Of videos that somebody else made: their folder's."""
        return self.videos.resolve().name if self.videos else ""

    def generations(self) -> "list[Generation]":
        """The jobs that make videos, their samplers' plans checked."""
        from bench.methods import METHODS  # noqa: PLC0415
        from bench.suite import did_you_mean  # noqa: PLC0415
        from bench.ucf101.generate import Generation  # noqa: PLC0415

        found = []
        for method in self.methods:
            if method not in METHODS:
                raise ValueError(f"there is no method {method!r}{did_you_mean(method, list(METHODS))}")
            self.plan.fe(method)
            found.append(Generation(self.plan, method, str(self.model), self.out / method, self.plan.identity(method)))
        return found

    def begin(self, made: "Generation") -> None:
        """Note in a method's folder what it is for.

        Raises:
            ValueError: it was begun for something else.
        """
        from bench.ucf101.plan import keep, told  # noqa: PLC0415

        content = {**told(self.plan), "method": made.method, "identity": made.identity}
        names = ("settings", "prompts", "allocation", "videos", "clip", "precision", "batch", "method", "identity")
        keep(made.out / "plan.json", {name: content[name] for name in names}, "a plan")

    def networks(self) -> "dict[Judge, FeatureNetwork]":
        """Every scoring network, loaded once here: what is wrong with a file shows before hours of work."""
        from bench.ucf101.score import judges  # noqa: PLC0415

        return {judge: judge.load() for judge in judges(self.plan.settings, self.weights, self.plan.batch)}

    def job(self, sources: Any, side: str, judge: "Judge", network: "FeatureNetwork", out: Path) -> "Embedding":
        """The job of one network on one side."""
        from bench.ucf101.score import embedding  # noqa: PLC0415

        return embedding(sources, side, judge, network, self.plan.settings, self.crew, out)

    def given(self) -> Any:
        """Clips of the videos that somebody else made."""
        from bench.ucf101.score import given_sources  # noqa: PLC0415

        assert self.videos is not None
        wanted = len(self.plan.items)
        return given_sources(self.videos, self.plan.settings, wanted, allow_small=self.allow_small)

    def real_jobs(self, networks: "Mapping[Judge, FeatureNetwork]") -> "dict[Judge, Embedding]":
        """The real side's jobs; the Inception Score has none."""
        from bench.ucf101.score import real_file, real_sources  # noqa: PLC0415

        sources = real_sources(self.archive, self.plan.settings)
        found = {}
        for judge, network in networks.items():
            if judge.metric == "fvd":
                found[judge] = job = self.job(sources, "real", judge, network, self.cache)
                if real_file(job).is_file():
                    _say(f"real, {judge.name}: statistics from {real_file(job)}")
        return found

    def real_sides(
        self, jobs: "Mapping[Judge, Embedding]", networks: "Mapping[Judge, FeatureNetwork]"
    ) -> "dict[Judge, Side]":
        """The real sides, kept with their manifests."""
        from bench.ucf101.score import cached_real  # noqa: PLC0415

        settings = self.plan.settings
        return {judge: cached_real(job, judge, networks[judge], settings, self.archive) for judge, job in jobs.items()}

    def score(self, judge: "Judge", network: "FeatureNetwork", real: "Side | None", fake: "Side") -> "Result":
        """One score, with what must be equal for another to compare."""
        from bench.ucf101.score import score  # noqa: PLC0415

        about = {
            "protocol": self.plan.protocol,
            "changes": list(self.plan.changes),
            "prompts": dict(self.plan.prompts) if self.methods else None,
            "allocation": dict(self.plan.allocation) if self.methods else None,
            "archive": self.archive.manifest(),
        }
        return score(judge, network, real, fake, self.plan.settings, about, allow_small=self.allow_small)

    def account(self, made: "Generation", lines: Sequence[Mapping[str, Any]]) -> dict[str, object]:
        """How a method's videos came about, for the card."""
        from bench.ucf101.generate import MANIFEST  # noqa: PLC0415
        from vidrd.checkpoints import sha256  # noqa: PLC0415

        seconds = [float(line["seconds"]) for line in lines]
        devices: dict[str, int] = {}
        for line in lines:
            devices[line["device"]] = devices.get(line["device"], 0) + 1
        return {
            "options": repr(self.plan.options(made.method)),
            "fe_per_video": self.plan.fe(made.method),
            "identity": made.identity,
            "manifest_sha256": sha256(made.out / MANIFEST),
            "devices": devices,
            "seconds": sum(seconds),
            "bytes": sum(int(line["bytes"]) for line in lines),
            "shape": lines[0]["shape"],
        }

    def work(self, name: str, job: "Job", blocks: int, batch: int, shard: str | None) -> None:
        """Do the blocks of a job that are not done, and tell how far it is."""
        from bench.ucf101.blocks import run_blocks  # noqa: PLC0415
        from metrics.progress import Progress, Teller  # noqa: PLC0415

        mine = _share(shard, blocks)
        todo = [block for block in mine if not job.is_done(block)]
        teller, began, count = Teller(), time.monotonic(), [len(mine) - len(todo)]

        def tell(_: "Done") -> None:
            count[0] += 1
            kept = len(mine) - len(todo)
            teller(name, Progress(count[0] * batch, len(mine) * batch, kept * batch, time.monotonic() - began))

        if todo:
            run_blocks(job, todo, self.crew, _say, tell)

    def tell(
        self,
        results: "Mapping[str, Mapping[str, Result]]",
        about: Mapping[str, Mapping[str, object]],
        networks: "Mapping[Judge, FeatureNetwork]",
        seconds: Mapping[str, float],
    ) -> int:
        """Write table and card; `reports` prints them, in a process of its own that loads no torch."""
        from bench.ucf101.card import write_card  # noqa: PLC0415
        from bench.ucf101.score import standing  # noqa: PLC0415

        count = min(result.scores[key.partition(":")[0]].n for each in results.values() for key, result in each.items())
        used = {judge.name: network for judge, network in networks.items()}
        apart = standing(self.archive, used, count, self.plan.wanted, self.world)
        before = self.out / ESTIMATE
        write_card(
            self.out,
            self.plan,
            results,
            archive=self.archive.manifest(),
            apart=apart,
            world=self.world or ("partial" if apart else ""),
            made=about,
            seconds=seconds,
            estimate=json.loads(before.read_text()) if before.is_file() else None,
        )
        command = [sys.executable, "-m", "reports", str(self.out), "--out", str(self.out)]
        return subprocess.run(command, check=False).returncode


class _Clock:
    """Seconds of the stages, one after the other."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(self.laps.get(name, 0.0) + now - self._last, 3)
        self._last = now


def _plan(name: str, asked: Mapping[str, object], model: str | None, **more: Any) -> "Plan":
    from bench.ucf101.plan import make_plan  # noqa: PLC0415

    described, clip = _model(model) if model is not None else ({"folder": None, "sha256": None}, 16)
    return make_plan(name, asked, model=described, clip=clip, **more)


def _model(name: str) -> tuple[dict[str, object], int]:
    """What a pipeline's folder is, and the frames of its clip, without loading it."""
    from bench.measure.machine import files_hash  # noqa: PLC0415
    from vidrd.checkpoints import PRESETS  # noqa: PLC0415

    folder = PRESETS[name].folder if name in PRESETS else Path(name)
    index = folder / "model_index.json"
    if not index.is_file():
        hint = "convert it first: python -m vidrd convert" if (folder / "ModelT2V.pth").is_file() else "give its folder"
        raise ValueError(f"{name} is no VidRD pipeline: it has no model_index.json; {hint}")
    clip = int(json.loads(index.read_text(encoding="utf-8")).get("clip", 8))
    return {"folder": folder.name, "sha256": files_hash(["."], folder)}, clip


def _archive(path: Path, *, partial: bool) -> "Archive":
    from bench.ucf101.archive import read_archive  # noqa: PLC0415

    return read_archive(path, allow_partial=partial)


def _standin(
    out: Path, model: str | None, ucf101: Path | None, weights: Path | None, videos: Path | None
) -> tuple[str | None, Path, Path]:
    """Tiny stand-ins for what was not given, made once, below the run's folder."""
    from bench.ucf101.standin import make_archive, make_model, make_weights  # noqa: PLC0415

    folder = out / "stand-ins"
    folder.mkdir(parents=True, exist_ok=True)

    def once(name: str, make: Callable[[Path], object]) -> Path:
        if not (folder / name).is_dir():
            beside = folder / f".{name}.part"
            shutil.rmtree(beside, ignore_errors=True)
            make(beside)
            beside.rename(folder / name)
        return folder / name

    archive = ucf101 or once("UCF101", make_archive)
    files = once("weights", lambda path: make_weights(path, only=STANDIN_FILES))
    if model is None and videos is None:
        model = str(once("model", lambda path: make_model(files, path)))
    return model, archive, weights or files


def _cache(given: Path | None, out: Path, *, standin: bool) -> Path:
    from metrics.cache import default_path  # noqa: PLC0415

    return given or (out / "stand-ins" / "real" if standin else default_path().parent / "ucf101")


def _devices(device: str) -> tuple[str, ...]:
    if device != "cuda":
        return (device,)
    import torch  # noqa: PLC0415

    if not torch.cuda.is_available():
        raise ValueError("--device cuda: there is no CUDA device here; take cpu")
    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))


def _words(given: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Words given one by one or with commas."""
    return None if given is None else tuple(word for each in given for word in each.split(",") if word)


def _share(shard: str | None, blocks: int) -> range:
    """The blocks of a shard "I/N", I from 0.

    Raises:
        ValueError: it is not of that form.
    """
    if shard is None:
        return range(blocks)
    first, slash, count = shard.partition("/")
    if not (slash and first.isdigit() and count.isdigit() and int(first) < int(count)):
        raise ValueError(f"--shard is I/N with I from 0 to N - 1, as in 0/8: {shard!r} came")
    return range(int(first), blocks, int(count))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
