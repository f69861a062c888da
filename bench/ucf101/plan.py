"""What a run will make, known before anything runs: a video's seed, file and batch follow from the plan alone.

No part of it depends on who does the work, on how many do it, or on what was done before.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from baselines.latent_frames import FrameRule
from bench.hardware.machine import software, source_hash
from bench.methods import METHODS
from bench.results.records import canonical, write_atomic
from bench.ucf101.allocation import allocate, manifest
from bench.ucf101.allocation import rule as rule_of
from bench.ucf101.classes import class_counts
from bench.ucf101.prompts import PromptSet, prompt_set
from bench.ucf101.protocols import Protocol, protocol
from metrics.protocols import Sampling
from vidrd.sampler_contract import Request

Precision = Literal["fp32", "fp16", "bf16"]
# The sources that videos depend on; folders with all that is in them.
MAKERS = ("vidrd", "baselines", "bench/methods.py", "bench/ucf101/generate.py", "bench/ucf101/plan.py",
          "bench/videos/generator.py")  # fmt: skip
SUFFIX = ".mkv"  # lossless
NO_CLASS = "prompts"  # folder of the videos whose prompts name no class


@dataclass(frozen=True)
class PlannedVideo:
    """One video to be made."""

    prompt_id: str
    class_name: str  # "" where the prompts name none
    prompt: str
    index: int  # which sample of the prompt
    seed: int  # of its noise: a hash of run, prompt and index

    @property
    def file(self) -> str:
        """Its path below the folder of the videos."""
        return f"{self.class_name or NO_CLASS}/{self.prompt_id}_{self.index:04}{SUFFIX}"


@dataclass(frozen=True)
class Plan:
    """The videos of a run in their order, and how each is made."""

    protocol: str
    settings: Protocol  # the row, with what was changed
    changes: tuple[str, ...]  # "steps: 20, the protocol's is 50"
    prompts: Mapping[str, object]  # manifests of the two
    allocation: Mapping[str, object]
    items: tuple[PlannedVideo, ...]
    wanted: int  # videos that the protocol itself takes
    model: Mapping[str, object]  # where it was, and a hash of its files
    clip: int  # latent frames of one network call
    precision: Precision
    batch: int  # items that go through the networks together: always the same ones
    compiled: bool = False  # the U-Net through torch.compile, which may change last bits
    rule: FrameRule = FrameRule(1)  # noqa: RUF009  (a tuple) - how the model's latent frames become frames

    @property
    def blocks(self) -> int:
        """Batches of items."""
        return -(-len(self.items) // self.batch)

    def block(self, number: int) -> tuple[PlannedVideo, ...]:
        """The items of one batch."""
        return self.items[number * self.batch : (number + 1) * self.batch]

    def identity(self, method: str) -> str:
        """Hash of all that a method's videos depend on, the code included, but for the device."""
        content = {
            **code_identity(),
            "items": [[item.prompt_id, item.prompt, item.index, item.seed] for item in self.items],
            "model": self.model["sha256"],
            "method": method,
            "options": str(self.options(method)),
            **{name: getattr(self, name) for name in ("clip", "precision", "batch")},
            **({"compiled": True} if self.compiled else {}),
            **{name: getattr(self.settings, name) for name in ("frames", "size", "steps", "guidance", "fps")},
        }
        return hashlib.sha256(canonical(content).encode()).hexdigest()

    def options(self, method: str) -> object:
        """The sampler's options.

        Raises:
            ValueError: the overlap is no whole number of the model's latent frames.
        """
        return METHODS[method].options(self.rule.overlap(self.settings.overlap))

    @property
    def frames(self) -> int:
        """Latent frames of a video: as few as have the protocol's frames."""
        return self.rule.enough(self.settings.frames)

    def fe(self, method: str) -> int:
        """Frame evaluations of one video, both branches of guidance counted.

        Raises:
            ValueError: the sampler cannot make such a video.
        """
        request = Request(self.frames, self.clip, (1, 1, 1), (0,))
        branches = 1 if self.settings.guidance == 1 else 2
        return METHODS[method].plan(request, self.settings.steps, self.options(method)).fe * branches


@cache
def code_identity() -> dict[str, str]:
    """Hash of the sources that make videos, and the versions of the packages that they use."""
    return {"code": source_hash(paths=MAKERS), "packages": canonical(software())}


def changed(name: str, changes: Mapping[str, object]) -> tuple[Protocol, tuple[str, ...]]:
    """A protocol with other settings where they are not None, and what that changed, a line each.

    Another `size` is also that of the square that both sides are stored as.
    """
    row = protocol(name)
    differences = [
        f"{setting}: {_words(value)}, the protocol's is {_words(getattr(row, setting))}"
        for setting, value in changes.items()
        if value is not None and value != getattr(row, setting)
    ]
    new: dict[str, Any] = {setting: value for setting, value in changes.items() if value is not None}
    settings = replace(row, **new)
    return replace(settings, real=_sized(settings.real, new), fake=_sized(settings.fake, new)), tuple(differences)


def _sized(rule: Sampling, changes: Mapping[str, Any]) -> Sampling:
    """The rule, its storage of another size where that was changed."""
    if rule.storage is None or "size" not in changes:
        return rule
    resample = replace(rule.storage.resample, size=changes["size"])
    return replace(rule, storage=replace(rule.storage, resample=resample))


def make_plan(
    name: str,
    changes: Mapping[str, object],  # setting of the protocol -> value, or None to leave it
    *,
    model: Mapping[str, object],
    clip: int,
    precision: Precision,
    batch: int,
    compiled: bool = False,
    rule: FrameRule = FrameRule(1),  # noqa: B008  (a tuple)
    per_class: int | None = None,  # so many videos of each class, instead of the protocol's allocation
    limit: int | None = None,  # only the first so many items
) -> Plan:
    """Everything about a run's videos.

    Raises:
        ValueError: a setting that cannot be: the message says which.
    """
    for what, value in (("batch", batch), ("per-class", per_class), ("limit", limit)):
        if value is not None and value < 1:
            raise ValueError(f"--{what} is a count from 1 upwards: got {value}")
    if per_class is not None:
        changes = {**changes, "allocation": f"{per_class}-a-class"}
    settings, differences = changed(name, changes)
    prompts = prompt_set(settings.prompts)
    allocation = rule_of(settings.allocation)
    chosen = allocate(allocation, prompts)
    items = order(prompts, chosen, settings.seed)
    if limit is not None and limit < len(items):
        items, differences = items[:limit], (*differences, f"videos: the first {limit} of {len(items)}")
    wanted = sum(1 for _ in allocate(rule_of(protocol(name).allocation), prompt_set(protocol(name).prompts)))
    return Plan(
        protocol=name,
        settings=settings,
        changes=differences,
        prompts=prompts.manifest(),
        allocation=manifest(allocation, chosen),
        items=items,
        wanted=wanted,
        model=model,
        clip=clip,
        precision=precision,
        batch=batch,
        compiled=compiled,
        rule=rule,
    )


def order(prompts: PromptSet, chosen: Sequence[tuple[str, int]], run: int) -> tuple[PlannedVideo, ...]:
    """Items with their seeds, shuffled by a hash: each stretch of them is then a fair sample of the classes.

    Splits of an Inception Score, and the first n, are cut from this order.
    """
    items = []
    for prompt_id, index in chosen:
        prompt = prompts.by_id[prompt_id]
        items.append(
            PlannedVideo(prompt_id, prompt.class_name or "", prompt.text, index, seed_of(run, prompt_id, index))
        )
    return tuple(sorted(items, key=lambda item: key_of("order", run, item.prompt_id, item.index)))


def seed_of(run: int, prompt_id: str, index: int) -> int:
    """63 bits that say which noise an item gets: the same for every method, machine and rank."""
    return int.from_bytes(key_of("seed", run, prompt_id, index)[:8], "big") >> 1


def keep(path: Path, content: Mapping[str, object], what: str) -> None:
    """Write what a folder is for, or find that it is for the same.

    Raises:
        ValueError: the folder was begun for something else.
    """
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} cannot be read ({error}): give --out another folder, or delete it") from error
        now = json.loads(json.dumps(content))
        other = [key for key in now if before.get(key) != now[key]]
        if other:
            raise ValueError(
                f"{path.parent} was begun for {what} of other {', '.join(other)}: give --out another folder"
            )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def plan_record(plan: Plan) -> dict[str, object]:
    """The plan without its items, as data."""
    return {
        "protocol": plan.protocol,
        "settings": json.loads(json.dumps(asdict(plan.settings))),
        "changes": list(plan.changes),
        "prompts": dict(plan.prompts),
        "allocation": dict(plan.allocation),
        "videos": len(plan.items),
        "videos_of_protocol": plan.wanted,
        "videos_of_class": class_videos(plan),
        "model": dict(plan.model),
        "clip": plan.clip,
        "precision": plan.precision,
        "batch": plan.batch,
        "compiled": plan.compiled,
    }


def class_videos(plan: Plan) -> dict[str, int]:
    """How many videos show each class, classes in the order of the archive; {} where prompts name none."""
    counts = dict.fromkeys(class_counts(), 0)
    for item in plan.items:
        if item.class_name:
            counts[item.class_name] += 1
    return {name: count for name, count in counts.items() if count}


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def key_of(*parts: object) -> bytes:
    """Hash of some words."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
