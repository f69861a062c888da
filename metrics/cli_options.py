"""The command line's options: one typed record per verb."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from metrics.option_types import Count, CountOrNone, ExistingFile, Seed, TargetFile, TargetFolder


@dataclass(frozen=True)
class Common:
    """How sets are read and networks are run."""

    protocol: str | None = None
    """A way to compute the score (`fvd`, `kvd`: clean, google, styleganv, styleganv-fixed, videogpt, tats, cdfvd,
    common; on other features than I3D's cdfvd-videomae, jedi, jedi-facebook, dino, clip, with --weights FOLDER; `is`:
    tgan, tgan2, styleganv), or pocket: this project's own classifiers, for its own pocket world. Default:
    clean, or tgan2, where weights of I3D or C3D are given; pocket where none are."""
    weights: Path | None = None
    """File or folder of the network's weights (default: what VIDRD_METRICS_WEIGHTS names, or pocket classifiers)."""
    mean: ExistingFile | None = None
    """C3D's mean clip (default: mean2.npz next to its weights)."""
    n: Count | None = None
    """Clips of each set (default: as the protocol says, or all)."""
    frames: Count | None = None
    """Frames of each clip (default: as the protocol says, or whole videos)."""
    stride: Count | None = None
    """Frames from one frame of a clip to its next (default: as the protocol says)."""
    window: Count | None = None
    """Cut each video into all windows of this many frames that fit, instead of drawing clips."""
    seed: Seed = 0
    """Seed of the draw of clips."""
    real_list: ExistingFile | None = None
    """Use only these videos of the real set: names, one per line, as UCF-101's trainlist01.txt has them."""
    real_clips: ExistingFile | None = None
    """Use these clips of the real set: JSON lines of video, start, frames, stride."""
    fake_clips: ExistingFile | None = None
    """Use these clips of the generated set."""
    save_clips: TargetFolder | None = None
    """Write the clips that were used into this folder, as real.jsonl and fake.jsonl."""
    save_stats: TargetFile | None = None
    """Write the real set's statistics to this .npz, which can then be given instead of the real set."""
    stored: bool = False
    """The real videos are already as the protocol's loader stores them."""
    allow_small: bool = False
    """Score sets that are too small for the score to mean much."""
    allow_gaps: bool = False
    """Score without the videos that cannot be read."""
    cache: Path | None = None
    """File that keeps features, so that a killed run resumes (default: in the user's cache folder)."""
    fresh: bool = False
    """Neither use nor keep features in that file."""
    batch: Count = 8
    """Clips per network call."""
    device: str = "auto"
    """Where the network runs: cpu, cuda, cuda:1 (default: a GPU where there is one, otherwise the CPU)."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of I3D; a reduced one changes FVD and appears in the network's name."""
    compiled: bool = False
    """Let torch.compile make I3D faster, which takes a minute at first."""
    run_program: bool = False
    """The weights are StyleGAN-V's TorchScript program: run it, if it is the known one; do not read its tensors."""
    trust_program: bool = False
    """Run the program even if it is not the known one."""
    json: TargetFile | None = None
    """Also write the numbers, with their manifest, to this file."""


@dataclass(frozen=True)
class Fvd:
    """Fréchet video distance between two sets, and its floor: real against real at the same n."""

    real: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="REAL")]
    fake: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FAKE")]
    floor: bool = True
    """Draw a second real set of the same size for the floor, if there are enough clips."""
    infinity: bool = False
    """Also estimate FVD without the bias of few videos, by a line in 1/n."""
    common: tyro.conf.OmitArgPrefixes[Common] = Common()


@dataclass(frozen=True)
class Kvd:
    """Kernel distance, precision, recall, density and coverage, of the same features as FVD."""

    real: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="REAL")]
    fake: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FAKE")]
    neighbours: Count = 3
    """Neighbors of precision and recall; density and coverage take two more."""
    common: tyro.conf.OmitArgPrefixes[Common] = Common()


@dataclass(frozen=True)
class InceptionScore:
    """Inception Score of one set, with its ceiling; of two, the first is real video and is scored as well."""

    videos: tyro.conf.Positional[tuple[Path, ...]]
    head: str | None = None
    """Which of the classifier's attributes to score (default: action, or the only one)."""
    splits: Count | None = None
    """Cut the set into that many parts and take the mean of their scores (default: as the protocol says, or 1)."""
    common: tyro.conf.OmitArgPrefixes[Common] = Common()


@dataclass(frozen=True)
class Jitter:
    """How videos change over time, without a network: flicker, jitter (change that the next frame reverts), jumps of
    brightness, motion and its unevenness, held frames, drift of color; with --seams, how visible the seams are.

    Of two sets, the first is real video and is measured as well."""

    videos: tyro.conf.Positional[tuple[Path, ...]]
    seams: tuple[Count, ...] = ()
    """First frame of each new clip, in every video."""
    dropped: CountOrNone = 0
    """Frames that each new clip lost at its start before it was joined."""
    n: Count | None = None
    """Videos of each set, the first by name (default: all)."""
    frames: Count | None = None
    """How many frames of each video are used, from its start (default: all)."""
    raft: Path | None = None
    """torchvision's weights of RAFT, for finer flow than the classical one."""
    device: str = "auto"
    """Where RAFT runs: cpu, cuda, cuda:1 (default: a GPU where there is one, otherwise the CPU)."""
    flow: bool = True
    """Also compute what needs optical flow, which takes most of the time."""
    allow_gaps: bool = False
    """Measure without the videos that cannot be read."""
    json: TargetFile | None = None
    """Also write the numbers, with their manifest, to this file."""


@dataclass(frozen=True)
class FolderOptions:
    """How folders are measured video by video."""

    weights: Path | None = None
    """Folder of the networks' files, under their published names at any depth: VBench's own cache will do
    (default: what VIDRD_METRICS_WEIGHTS names)."""
    n: Count | None = None
    """Videos of each set, the first by name (default: all)."""
    allow_gaps: bool = False
    """Measure without the videos that cannot be read."""
    cache: Path | None = None
    """File that keeps what was measured, so that a killed run resumes (default: in the user's cache folder)."""
    fresh: bool = False
    """Neither use nor keep anything in that file."""
    batch: Count = 8
    """Frames that a network sees at a time."""
    device: str = "auto"
    """Where networks run: cpu, cuda, cuda:1 (default: a GPU where there is one, otherwise the CPU)."""
    json: TargetFile | None = None
    """Also write the numbers, with their manifest, to this file."""


@dataclass(frozen=True)
class Vbench:
    """VBench's dimensions of your own videos; of two folders, the first is real video and is measured as well."""

    videos: tyro.conf.Positional[tuple[Path, ...]] = ()
    prompts: ExistingFile | None = None
    """Prompts by video: JSON {name: text}, or lines of a name, a tab and a text. overall_consistency needs them."""
    dimensions: tuple[str, ...] = ()
    """Dimensions to measure, all or nothing (default: all whose files and prompts are there, with a note on others)."""
    compat: Literal["vbench"] | None = None
    """vbench: as its own code does it, traps included: only .mp4, .gif and .png directly in the folder, consistencies
    pooled over frames, two frames always move, frames too small for RAFT are still, prompts from file names."""
    imaging: Literal["longer", "shorter", "shorter_centercrop", "None"] = "longer"
    """Which side imaging quality brings down to 512 pixels."""
    length: Literal["short", "long"] = "short"
    """long: as VBench-Long, the mean over clips of 2 seconds; compared with no other clip, and not encoded anew."""
    export: Path | None = None
    """Measure nothing, but write videos and prompts into this new folder as VBench wants them."""
    full_info: ExistingFile | None = None
    """Your copy of VBench_full_info.json: --export lists the numbers of its prompts, never their text."""
    imported: Annotated[Path | None, tyro.conf.arg(name="import")] = None
    """Measure nothing, but read VBench's own ..._eval_results.json into a record of this project."""
    reading: tyro.conf.OmitArgPrefixes[FolderOptions] = FolderOptions()


@dataclass(frozen=True)
class Alignment:
    """How well videos fit their prompts, by CLIP and ViCLIP, under each of the definitions in use."""

    videos: tyro.conf.Positional[tuple[Path, ...]]
    prompts: ExistingFile
    """Prompts by video: JSON {name: text or token ids}, or lines of a name, a tab and a text."""
    size: Literal["b32", "l14"] = "b32"
    """CLIP's network: ViT-B/32, as CLIPSIM has it, or ViT-L/14, as torchmetrics; their numbers do not compare."""
    measures: tuple[str, ...] = ()
    """Definitions to take, all or nothing (default: all whose files are there, with a note on others)."""
    reading: tyro.conf.OmitArgPrefixes[FolderOptions] = FolderOptions()


@dataclass(frozen=True)
class Minutes:
    """How videos change over minutes: similarity against gap, start against end, VDE, identity, color by window."""

    videos: tyro.conf.Positional[tuple[Path, ...]]
    window: Count | None = None
    """Frames of each window that the videos were made in, overlap counted once: for color steps and seams."""
    prompts: ExistingFile | None = None
    """Prompts by video, to measure how far what is shown drifts from the prompt."""
    measures: tuple[str, ...] = ()
    """Measures to take, all or nothing (default: all whose files are there, with a note on others)."""
    reading: tyro.conf.OmitArgPrefixes[FolderOptions] = FolderOptions()


@dataclass(frozen=True)
class OnePass:
    """Several metrics of one set in one pass: each video is decoded once, features and flow are computed once.

    The numbers are those of the single verbs, to the last bit; these have more options, and find in the cache what
    this one has computed."""

    videos: tyro.conf.Positional[Path]
    """The generated set."""
    metrics: tuple[Literal["fvd", "kvd", "jedi", "is", "jitter", "vbench", "alignment", "minutes"], ...]
    """Metrics to compute; kvd includes precision, recall, density and coverage."""
    real: Path | None = None
    """Real videos: fvd, kvd and jedi need them, the others measure them as well."""
    protocol: tuple[str, ...] = ()
    """Protocols of fvd, kvd and is, as those verbs have them, each for the metrics that know it (default: as there)."""
    prompts: ExistingFile | None = None
    """Prompts by video, as for vbench. alignment needs them."""
    weights: Path | None = None
    """Folder of the networks' files, under their published names (default: what VIDRD_METRICS_WEIGHTS names)."""
    n: Count | None = None
    """Clips, or videos, of each set (default: as the protocol says, or all)."""
    seed: Seed = 0
    """Seed of the draw of clips."""
    flow: bool = True
    """Also compute the part of jitter that needs optical flow, which takes most of its time."""
    allow_small: bool = False
    """Score sets that are too small for the score to mean much."""
    allow_gaps: bool = False
    """Score without the videos that cannot be read."""
    cache: Path | None = None
    """File that keeps what was computed, so that a killed run resumes (default: in the user's cache folder)."""
    fresh: bool = False
    """Neither use nor keep anything in that file."""
    batch: Count = 8
    """Clips, or frames, that a network sees at a time."""
    device: str = "auto"
    """Where networks run: cpu, cuda, cuda:1 (default: a GPU where there is one, otherwise the CPU)."""
    ray: bool = False
    """Compute on the Ray cluster that RAY_ADDRESS names, or on one of this machine; all must see the same files."""
    workers: Count = 1
    """With --ray, actors that compute, each with a core or a GPU."""
    json: TargetFolder | None = None
    """Also write each verb's numbers, with their manifest, into this folder, as its own --json would."""


@dataclass(frozen=True)
class Compare:
    """Second minus first of two files that --json wrote, with an interval; refused if their manifests differ."""

    first: tyro.conf.Positional[Path]
    second: tyro.conf.Positional[Path]
    force: bool = False
    """Compare scores even if they were made differently."""
    json: TargetFile | None = None
    """Also write the differences to this file."""


@dataclass(frozen=True)
class Verify:
    """Which network a file of weights holds, whether each tensor is as published, and whether it behaves so.

    Exit code 0: right. 2: wrong. 3: no file of weights. 4: nothing published to compare with.
    """

    weights: Path
    """The file, or the folder that holds it under its published name."""
    all_lengths: bool = False
    """Try constant clips of all 21 published lengths, not of four."""
    export: TargetFile | None = None
    """Also write the tensors to this safetensors file."""
    device: str = "auto"
    """Where the network runs: cpu, cuda, cuda:1 (default: a GPU where there is one, otherwise the CPU)."""
    json: TargetFile | None = None
    """Also write the findings to this file."""


def real_and_fake(videos: tuple[Path, ...]) -> tuple[Path | None, Path]:
    """Of two sets the first is real video; one alone is the generated one.

    Raises:
        ValueError: no set, or more than two.
    """
    if not 1 <= len(videos) <= 2:
        raise ValueError(f"give one set of videos, or the real one and then the generated one: got {len(videos)}")
    return videos[0] if len(videos) == 2 else None, videos[-1]


Verb = (
    Annotated[Fvd, tyro.conf.subcommand("fvd")]
    | Annotated[Kvd, tyro.conf.subcommand("kvd")]
    | Annotated[InceptionScore, tyro.conf.subcommand("is")]
    | Annotated[Jitter, tyro.conf.subcommand("jitter")]
    | Annotated[Vbench, tyro.conf.subcommand("vbench")]
    | Annotated[Alignment, tyro.conf.subcommand("alignment")]
    | Annotated[Minutes, tyro.conf.subcommand("minutes")]
    | Annotated[OnePass, tyro.conf.subcommand("score")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
)
