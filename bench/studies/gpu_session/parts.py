"""The parts of a GPU session: what each runs, what it leaves, and how long it needs. The most valuable come first."""

import json
import sys
import types
import typing
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bench.results.manifest import read_manifest
from bench.results.records import read
from bench.studies.gpu_session.clip_time import ClipTime
from bench.studies.gpu_session.train_steps import TrainTime
from bench.studies.gpu_session.video_rate import VideoRate

STARTING = 15  # seconds of a suite before its first cell and after its last one
BAD = ("failed", "invalid", "timeout", "oom")  # cells that should have been measured
WAN = "drawn:WanPipeline:1.3B"
LTX = "drawn:LTXPipeline:2B"
TINY = {"full": "tiny", WAN: "tiny:WanPipeline:2.1", LTX: "tiny:LTXPipeline:0.9"}  # what a dry session takes instead


class Part(NamedTuple):
    """A part of the session.

    Args:
        reserve: seconds that are kept for it; with fewer left it is not begun.
        command: (folder of the session, seconds it may take) -> its command.
        leaves: what it leaves in the folder.
        check: path of that -> a summary; raises ValueError where it is not what it has to be.
    """

    reserve: int
    command: Callable[[Path, float], list[str]]
    leaves: str
    check: Callable[[Path], str]


def parts(*, dry: bool = False) -> dict[str, Part]:
    """All parts by name, in their order; dry: the same commands on tiny models."""

    def size(model: str) -> str:
        return TINY[model] if dry else model

    def own(name: str, reserve: int, record: type, steps: int) -> Part:
        few = 2 if dry else steps
        words = ["bench.studies.gpu_session.measure", name, "--model", size("full"), "--steps", str(few)]
        return Part(reserve, partial(_own, words, name), f"{name}.json", partial(check_list, record))

    def suite(part: str, name: str, reserve: int, dry_settings: str, **settings: object) -> Part:
        given = {"device": "cuda", **settings}
        given |= dict(each.split("=", 1) for each in dry_settings.split()) if dry else {}
        return Part(reserve, partial(_suite, name, part, given), part, partial(check_run, every=dry))

    def lengths(name: str, reserve: int, model: str, frames: str, dry_settings: str) -> Part:
        return suite(
            name, "lengths", reserve, dry_settings, model=size(model), frames=frames, method="codenoise,direct",
            overlap=16, steps=4, videos=3, precision="bf16",
        )  # fmt: skip

    settings = (
        "plain,compile=blocks,attention=_native_cudnn,attention=_native_flash,attention=flex,quantize=fp8,"
        "layout=channels-last,clips=2,vae=tiling,offload=group,cache=first-block,cache=taylorseer,solver=unipc:50%"
    )
    return {
        "clips": own("clips", 120, ClipTime, 50),
        "speed": suite("speed", "speed", 240, "seconds=1 rounds=2 rung=reference,compile,bf16-4-clips,modelscope-bf16",
            model=size("full"), seconds=60, rounds=8),
        "train": own("train", 120, TrainTime, 5),
        "wan": lengths("wan", 420, WAN, "81,161", "frames=9,17 overlap=4 steps=2"),
        "ltx": lengths("ltx", 240, LTX, "161,321", "frames=17 overlap=8 steps=2"),
        "knobs": suite(
            "knobs", "knobs", 420, "setting=plain,compile=blocks frames=9 overlap=4 steps=2 videos=3 loss=psnr=0",
            model=size(WAN), setting=settings, frames=33, steps=4, videos=3, precision="bf16", loss="psnr=35",
        ),
        "kernels": suite(
            "kernels", "kernels", 240, "kernel=temporal-conv size=pocket seconds=0.05 rounds=3",
            size="full", precision="bf16",
        ),
        "ucf101": own("ucf101", 150, VideoRate, 50),
        "smoke": suite("smoke", "smoke", 180, "precision=fp32", precision="fp16,bf16"),
        "tests": Part(240, partial(_tests, dry), "tests.xml", check_tests),
        "memory": suite(
            "memory", "memory", 120, "frames=4,8 overlap=0",
            model=size("full"), frames="16,32,64,128,256", method="vidrd,direct", steps=2, overlap=4, precision="bf16",
        ),
        "approximations": suite(
            "approximations", "approximations", 120, "approximation=bf16,exact videos=4 batch=2 steps=2",
            approximation="fp8,bf16,exact",
        ),
        "pocket": suite("pocket", "speed", 120, "rung=reference,sdpa seconds=1 rounds=2",
                        model="pocket", seconds=20, rounds=8),
    }  # fmt: skip


def _own(words: list[str], name: str, folder: Path, seconds: float) -> list[str]:
    return [sys.executable, "-m", *words, "--out", str(folder / f"{name}.json"), "--seconds", f"{seconds:.0f}"]


def _suite(name: str, part: str, settings: dict[str, object], folder: Path, seconds: float) -> list[str]:
    """A suite, its run in runs/PART."""
    words = [word for setting in settings.items() for word in ("--set", "{}={}".format(*setting))]
    left = max(seconds - STARTING, 1)
    limits = ["--timeout", f"{left:.0f}", "--max-minutes", f"{left / 60:.2f}"]
    run = ["-m", "bench", "run", "--suite", name, *words, "--out", str(folder / "runs" / part), *limits]
    return [sys.executable, *run]


def _tests(dry: bool, folder: Path, seconds: float) -> list[str]:
    """The tests marked gpu; dry: only collected, and by -E without the pretended GPU, which loads bench too early."""
    words = ["-m", "pytest", "-m", "gpu", "-n", "0", f"--junit-xml={folder / 'tests.xml'}"]
    return [sys.executable, *(["-E"] if dry else []), *words, *(["--collect-only", "-q"] if dry else [])]


def check_list(record: type, path: Path) -> str:
    """How many records of a kind a file has.

    Raises:
        ValueError: it has none, or one with other fields or types.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    kinds = typing.get_type_hints(record)
    if not content:
        raise ValueError(f"{path.name} has no record")
    for each in content:
        if set(each) != {field.name for field in fields(record)}:
            raise ValueError(f"a {record.__name__} has {', '.join(kinds)}: got {', '.join(each)}")
        for name, value in each.items():
            if not _fits(value, kinds[name]):
                raise ValueError(f"{record.__name__}.{name} is {kinds[name]}: got {value!r}")
    return f"{len(content)} measured"


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value that was read from JSON is of an annotated type."""
    if isinstance(kind, types.UnionType):
        return any(_fits(value, each) for each in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return isinstance(value, list) and bool(value) and all(_fits(each, typing.get_args(kind)[0]) for each in value)
    return type(value) in ((int, float) if kind is float else (kind,))


def check_run(path: Path, *, every: bool) -> str:
    """How the cells of a run ended.

    Args:
        path: folder with its manifest and its records.
        every: also where a cell that could run was not measured, or no cell was.

    Raises:
        ValueError: a cell failed, or has neither a number nor a reason for some measure.
    """
    manifest, records = read_manifest(path), read(path / "records.jsonl").latest()
    asked = {cell["id"] for cell in manifest["cells"]}
    mine = {name: record for name, record in records.items() if name in asked}
    counts = Counter(record.attempt.status for record in mine.values())
    for record in mine.values():
        missing = set(manifest["measures"]) - set(record.numbers) - set(record.absent)
        if record.attempt.status == "ok" and missing:
            raise ValueError(f"cell {record.cell.id} has no number and no reason for {', '.join(sorted(missing))}")
    text = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    bad = next((each.attempt for each in mine.values() if each.attempt.status in BAD), None)
    if bad is not None or (every and (not counts["ok"] or len(mine) < len(asked))):
        raise ValueError(f"{text} of {len(asked)} cells" + (f": {bad.reason}" if bad else ""))
    return f"{text} of {len(asked)} cells"


def check_tests(path: Path) -> str:
    """How many tests ran.

    Raises:
        ValueError: one failed.
    """
    suites = ET.parse(path).getroot().iter("testsuite")
    counts = Counter[str]()
    for suite in suites:
        counts.update({name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")})
    if counts["failures"] or counts["errors"]:
        raise ValueError(f"{counts['failures'] + counts['errors']} of {counts['tests']} tests failed")
    return f"{counts['tests']} tests, {counts['skipped']} skipped"
