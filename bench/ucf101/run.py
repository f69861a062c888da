"""A run of a UCF-101 protocol from its plan to its card: make, embed, score, or estimate what that will take."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness.progress import say
from bench.harness.suite_spec import did_you_mean
from bench.methods import METHODS
from bench.results.records import write_atomic
from bench.ucf101 import estimate
from bench.ucf101.archive import Archive
from bench.ucf101.features import ClipSource, Embedding, ScoringNetwork
from bench.ucf101.generate import MANIFEST, Generation
from bench.ucf101.plan import Plan, code_identity, keep, plan_record
from bench.ucf101.pool import BlockJob, WorkerPool, run_blocks
from bench.ucf101.reproduction_card import write_card
from bench.ucf101.score import (
    cached_real,
    caveats,
    embedding,
    external_sources,
    generated_sources,
    real_file,
    real_list,
    real_sources,
    score,
    scoring_networks,
    world_of,
)
from metrics.evaluation.dataset import FeatureSet
from metrics.evaluation.progress import Progress, ProgressPrinter
from metrics.evaluation.result import Result
from metrics.networks.features import FeatureNetwork
from vidrd.checkpoints import sha256

ESTIMATE = "estimate.json"
LISTING = "list of real clips"
MAKING = ("frames", "size", "steps", "guidance", "overlap", "fps", "seed")  # settings that videos depend on


@dataclass(frozen=True)
class Run:
    """All that a run needs, checked."""

    plan: Plan
    pool: WorkerPool
    archive: Archive
    weights: Path | None
    out: Path
    cache: Path
    model: str | None
    methods: tuple[str, ...]
    videos: Path | None
    world: str
    allow_small: bool
    thin: int = 1  # what the channels of the scoring networks are divided by

    def do(self, shard: str | None) -> int:
        """Make, embed and score what is not done; or only a share of it, unscored."""
        networks = self.networks()
        generations = self.generations()
        clock = _Clock()
        say(self.title())
        for each in generations:
            self.begin(each)
            self.work(f"videos of {each.method}", each, each.plan.blocks, each.plan.batch, shard)
            clock.lap(f"videos of {each.method}")
        real = self.real_jobs(networks, self.cache)
        clock.lap(LISTING)
        for judge, job in real.items():
            self.work(f"real, {judge.name}", job, job.blocks, judge.batch, shard)
            clock.lap(f"real, {judge.name}")
        results: dict[str, dict[str, Result]] = {}
        about: dict[str, dict[str, object]] = {}
        sides = {} if shard else self.real_sides(real, networks)
        sets: dict[str, Generation | None] = {job.method: job for job in generations}
        for name, own in (sets or {self.name(): None}).items():
            if own is not None and shard:
                sources = generated_sources(own, share(shard, own.plan.blocks))
            elif own is not None:
                about[name] = self.account(own, own.collect())
                sources = generated_sources(own)
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
            say(f"shard {shard} is done; the same command without --shard scores when all are")
            return 0
        for name, found in results.items():
            for key, result in found.items():
                write_atomic(self.out / name / f"{key.replace(':', '-')}.json", result.to_json())
        return self.tell(results, about, networks, clock.laps)

    def print_estimate(self) -> int:
        """Measure a few blocks of every stage and print what the whole will take."""
        networks, stages = self.networks(), list[estimate.StageEstimate]()
        with estimate.scratch_folder() as folder:
            scratch = Path(folder)
            say(f"{self.title()}\nmeasuring a few blocks of each stage")
            trials: dict[str, list[ClipSource] | None] = {}
            for each in self.generations():
                stage, trials[each.method] = estimate.generation(each, self.pool, say, scratch)
                stages.append(stage)
            kept = (self.cache / real_list(self.archive, self.plan.settings)).is_file()
            began = time.perf_counter()
            real = self.real_jobs(networks, self.cache if kept else scratch)
            stages.append(estimate.listing(LISTING, real, 0.0 if kept else time.perf_counter() - began))
            for judge, job in real.items():
                stages.append(estimate.features(f"real, {judge.name}", job, self.pool, say, scratch))
            for name, sources in (trials or {self.name(): None}).items():
                for judge, network in networks.items():
                    whole = self.given() if sources is None else tuple(sources)
                    job = self.job(whole, "fake", judge, network, self.out / name / "features")
                    stage = estimate.features(f"{name}, {judge.name}", job, self.pool, say, scratch)
                    if sources is not None:
                        stage = estimate.scaled(stage, len(self.plan.items), self.pool, judge.batch)
                    stages.append(stage)
        content = estimate.as_dict(stages, self.pool)
        self.out.mkdir(parents=True, exist_ok=True)
        write_atomic(self.out / ESTIMATE, json.dumps(content, indent=1) + "\n")
        print(estimate.as_text(stages, self.pool))
        return 0

    def title(self) -> str:
        """One line that says what will be done."""
        words = f"{len(self.plan.items)} videos by {', '.join(self.methods)}" if self.methods else f"{self.videos}"
        changes = f"; changed: {'; '.join(self.plan.changes)}" if self.plan.changes else ""
        return f"{self.plan.protocol}: {words}{changes}"

    def name(self) -> str:
        """Of videos that somebody else made: their folder's."""
        return self.videos.resolve().name if self.videos else ""

    def generations(self) -> list[Generation]:
        """The jobs that make videos, their samplers' plans checked."""
        jobs = []
        for method in self.methods:
            if method not in METHODS:
                raise ValueError(f"there is no method {method!r}{did_you_mean(method, list(METHODS))}")
            self.plan.fe(method)
            jobs.append(Generation(self.plan, method, str(self.model), self.out / method, self.plan.identity(method)))
        return jobs

    def begin(self, generation: Generation) -> None:
        """Note in a method's folder what it is for.

        Raises:
            ValueError: it was begun for something else.
        """
        content = {
            **plan_record(self.plan),
            **code_identity(),
            "method": generation.method,
            "identity": generation.identity,
        }
        names = ("prompts", "allocation", "videos", "clip", "precision", "batch", "method", "model", "code",
                 "packages", "identity")  # fmt: skip
        settings = {name: getattr(self.plan.settings, name) for name in MAKING}
        keep(generation.out / "plan.json", {**settings, **{name: content[name] for name in names}}, "videos")

    def networks(self) -> dict[ScoringNetwork, FeatureNetwork]:
        """Every scoring network, loaded once here: what is wrong with a file shows before hours of work."""
        settings = self.plan.settings
        return {judge: judge.load() for judge in scoring_networks(settings, self.weights, self.plan.batch, self.thin)}

    def job(
        self, sources: tuple[ClipSource, ...], side: str, judge: ScoringNetwork, network: FeatureNetwork, out: Path
    ) -> Embedding:
        """The job of one network on one side."""
        return embedding(sources, side, judge, network, self.plan.settings, self.pool, out)

    def given(self) -> tuple[ClipSource, ...]:
        """Clips of the videos that somebody else made."""
        assert self.videos is not None
        wanted = len(self.plan.items)
        return external_sources(self.videos, self.plan.settings, wanted, allow_small=self.allow_small)

    def real_jobs(
        self, networks: Mapping[ScoringNetwork, FeatureNetwork], kept: Path
    ) -> dict[ScoringNetwork, Embedding]:
        """The real side's jobs, of clips whose list is kept in a folder; the Inception Score has none."""
        sources = real_sources(self.archive, self.plan.settings, kept)
        jobs = {}
        for judge, network in networks.items():
            if judge.metric == "fvd":
                jobs[judge] = job = self.job(sources, "real", judge, network, self.cache)
                if real_file(job).is_file():
                    say(f"real, {judge.name}: statistics from {real_file(job)}")
        return jobs

    def real_sides(
        self, jobs: Mapping[ScoringNetwork, Embedding], networks: Mapping[ScoringNetwork, FeatureNetwork]
    ) -> dict[ScoringNetwork, FeatureSet]:
        """The real sides, kept with their manifests."""
        settings = self.plan.settings
        return {judge: cached_real(job, judge, networks[judge], settings, self.archive) for judge, job in jobs.items()}

    def score(
        self, judge: ScoringNetwork, network: FeatureNetwork, real: FeatureSet | None, fake: FeatureSet
    ) -> Result:
        """One score, with what must be equal for another to compare."""
        about = {
            "protocol": self.plan.protocol,
            "changes": list(self.plan.changes),
            "prompts": dict(self.plan.prompts) if self.methods else None,
            "allocation": dict(self.plan.allocation) if self.methods else None,
            "archive": self.archive.manifest(),
        }
        return score(judge, network, real, fake, self.plan.settings, about, allow_small=self.allow_small)

    def account(self, made: Generation, lines: Sequence[Mapping[str, Any]]) -> dict[str, object]:
        """How a method's videos were made, for the card."""
        return {
            "options": repr(self.plan.options(made.method)),
            "fe_per_video": self.plan.fe(made.method),
            "identity": made.identity,
            "manifest_sha256": sha256(made.out / MANIFEST),
            "devices": dict(Counter(line["device"] for line in lines)),
            "seconds": sum(float(line["seconds"]) for line in lines),
            "bytes": sum(int(line["bytes"]) for line in lines),
            "shape": lines[0]["shape"],
        }

    def work(self, name: str, job: BlockJob, blocks: int, batch: int, shard: str | None) -> None:
        """Do the blocks of a job that are not done, and tell how far it is."""
        mine = share(shard, blocks)
        teller, began = ProgressPrinter(), time.monotonic()

        def tell(done: int, todo: int) -> None:
            kept = len(mine) - todo
            now = Progress((kept + done) * batch, len(mine) * batch, kept * batch, time.monotonic() - began)
            teller(name, now)

        run_blocks(job, mine, self.pool, say, tell)

    def tell(
        self,
        results: Mapping[str, Mapping[str, Result]],
        about: Mapping[str, Mapping[str, object]],
        networks: Mapping[ScoringNetwork, FeatureNetwork],
        seconds: Mapping[str, float],
    ) -> int:
        """Write table and card; `reports` prints them, in a process of its own that loads no torch."""
        least = min(result.scores[key.partition(":")[0]].n for each in results.values() for key, result in each.items())
        used = {judge.name: network for judge, network in networks.items()}
        apart = caveats(self.archive, used, least, self.plan.wanted, self.world)
        before = self.out / ESTIMATE
        write_card(
            self.out,
            self.plan,
            results,
            archive=self.archive.manifest(),
            apart=apart,
            world=world_of(self.archive, least, self.plan.wanted, apart, self.world),
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


def share(shard: str | None, blocks: int) -> range:
    """The blocks of a shard "I/N", I from 0.

    Raises:
        ValueError: it is not of that form.
    """
    if shard is None:
        return range(blocks)
    first, slash, count = shard.partition("/")
    if not (slash and first.isdigit() and count.isdigit() and int(first) < int(count)):
        raise ValueError(f"--shard is I/N with I from 0 to N - 1, as in 0/8: got {shard!r}")
    return range(int(first), blocks, int(count))
