"""How fast the metrics are: I3D against the machine's matrix product, FVD against other code, memory against n.

    python -m bench.studies.metrics_speed i3d
    python -m bench.studies.metrics_speed arrays --clips 32 --peer OTHER/bin/python     an environment with cd-fvd 0.1.1
    python -m bench.studies.metrics_speed files --folder CLIPS --clips 44
    python -m bench.studies.metrics_speed stages --folder CLIPS
    python -m bench.studies.metrics_speed memory --folder CLIPS --n 50,200,800
    python -m bench.studies.metrics_speed vision --network dino                         against the plain paths

Weights are random: speed does not depend on them, and equal results show as well. Variants take turns,
round after round, so that a machine that slows down slows them all; figures are the medians. Results that should be
equal and are not to 1e-6 are called FAILED, with exit code 2. Run it on an otherwise idle machine.
docs/metrics-speed.md says what is compared with what, and how to read it.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from unittest import mock

import numpy as np
import torch
import tyro
from jaxtyping import Float, UInt8
from scipy.linalg import sqrtm
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, ViTConfig, ViTModel

from bench.speed.reference_unet import textbook
from metrics.distribution.frechet import Gaussian, frechet_distance
from metrics.distribution.fvd import frechet_score
from metrics.evaluation.extract import embed_arrays, embed_clips
from metrics.networks.i3d import I3D, I3DFeatures, build_i3d, load_i3d
from metrics.networks.vision import load_clip, load_dino
from metrics.networks.vit import VideoMae
from metrics.protocols import FVD
from metrics.videos.clips import Clip
from metrics.videos.preprocess import threads
from metrics.videos.read import Video, list_videos
from vidrd.entry import obey

FRAMES = 16
SIDE = 2048  # of the matrix product that says what the machine can do
BLAS_ROUNDS = 10
PEER_BATCH = 16  # clips that published code gives the network at a time
EQUAL = 1e-6  # relative: what counts as the same FVD
ROWS = 2048  # of 400 features a side, whose statistics are timed
INVALID = 2  # exit code

# Runs in the other environment: the package's own interface on arrays, then its own distance.
PEER = """
import json, sys, time, numpy as np, torch
from cdfvd import fvd
torch.set_num_threads(int(sys.argv[4]))
judge = fvd.cdfvd("i3d", ckpt_path=sys.argv[1], device="cpu")
real, fake = np.load(sys.argv[2]), np.load(sys.argv[3])
judge.compute_fvd(real[:2], fake[:2])
judge.empty_real_stats(); judge.empty_fake_stats()
began = time.perf_counter()
value = float(judge.compute_fvd(real, fake))
print(json.dumps({"seconds": time.perf_counter() - began, "fvd": value}))
"""


@dataclass(frozen=True)
class Network:
    """I3D's forward pass as published, and in our forms, as shares of the float32 matrix product's rate."""

    batch: int = 4
    rounds: int = 7


@dataclass(frozen=True)
class Arrays:
    """FVD of uint8 arrays, 240 x 320, protocol cdfvd: ours, and cd-fvd itself where its environment is given."""

    clips: int = 32  # of each side
    peer: Path | None = None  # a Python that imports cdfvd
    rounds: int = 3
    compiled: bool = True


@dataclass(frozen=True)
class Files:
    """FVD of two halves of a folder of video files: ours, and decode everything, batch 16, sqrtm."""

    folder: Path
    clips: int = 44  # of both halves
    rounds: int = 3
    compiled: bool = True


@dataclass(frozen=True)
class Stages:
    """Clips per second of each stage alone, over the first 16 frames of the video files of a folder, and the floor."""

    folder: Path
    clips: int = 16
    batch: int = 4  # of the network
    rounds: int = 5
    compiled: bool = True


@dataclass(frozen=True)
class Memory:
    """Peak memory of a process that embeds n clips, from the folder's video files again and again."""

    folder: Path
    n: tuple[int, ...] = (50, 200, 800)
    one: Annotated[bool, tyro.conf.arg(help="this process is the one that is measured")] = False


@dataclass(frozen=True)
class Vision:
    """DINO, CLIP or VideoMAE-g, random weights: ours eager and compiled, and the plain path, attention written out.

    The plain path of DINO and CLIP is transformers' network: DINO's frame by frame, as VBench calls it, CLIP's all
    frames at once. That of VideoMAE-g, whose build transformers has not, is our network with attention as in cd-fvd.
    """

    network: Literal["dino", "clip", "videomae"] = "dino"
    rows: int = 4  # frames, or clips of 16 frames
    rounds: int = 3
    depth: int = 2  # blocks of VideoMAE-g, which has 40 alike
    compiled: bool = True


def recipe_weights(seed: int = 0) -> dict[str, Tensor]:
    """He-scaled kernels, norms that do something: the signal neither dies nor explodes."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, old in I3D().state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        drawn = torch.randn(old.shape, generator=generator)
        if old.ndim == 5:
            weights[name] = drawn * (2 / old[0].numel()) ** 0.5
        elif name.endswith("running_var"):
            weights[name] = 1 + 0.1 * drawn.abs()
        else:
            weights[name] = (1.0 if name.endswith("weight") else 0.0) + 0.1 * drawn
    return weights


def drawn_i3d(**options: Any) -> I3DFeatures:
    """I3D with these weights, read from a file as a published one would be."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "i3d_pretrained_400.pt"
        torch.save(recipe_weights(), path)
        return load_i3d(path, "cdfvd", **options)


def as_published(network: I3D, clips: Float[Tensor, "B 3 T 224 224"]) -> Float[Tensor, "B 400"]:
    """The network as its ports run it: axes in order in memory, norms apart; that its pads are fused flatters it."""
    return network(clips.contiguous())


def in_turn(
    variants: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each variant by a clock, each round calling all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            began = clock()
            variant()
            seconds[name].append(clock() - began)
    return seconds


def first_call(variant: Callable[[], object]) -> float:
    """Seconds of a call that may compile."""
    began = time.perf_counter()
    variant()
    return time.perf_counter() - began


@torch.inference_mode()
def network_speed(options: Network) -> dict[str, object]:
    """See `Network`."""
    weights = recipe_weights()
    plain, folded = build_i3d(weights, epsilon=1e-3), build_i3d(weights, epsilon=1e-3)
    folded.fold()
    folded.to(memory_format=torch.channels_last_3d)
    compiled = torch.compile(folded, dynamic=False)
    shape = (options.batch, 3, FRAMES, 224, 224)
    clips = 2 * torch.rand(shape, generator=torch.Generator().manual_seed(1)) - 1
    last = clips.contiguous(memory_format=torch.channels_last_3d)
    flops_of_clip = flops(plain)
    variants: dict[str, Callable[[], object]] = {
        "matrix product": matrix_product(),
        "as published": lambda: as_published(plain, clips),
        "folded, channels-last": lambda: folded(last),
        "compiled": lambda: compiled(last),
    }
    first = {name: first_call(variant) for name, variant in variants.items()}
    seconds = {name: statistics.median(each) for name, each in in_turn(variants, options.rounds).items()}
    exact = plain.double()(clips[:1].double())
    rate = BLAS_ROUNDS * 2 * SIDE**3 / seconds["matrix product"]
    rows: dict[str, object] = {"matrix product": {"gflops": rate / 1e9}}
    outputs = {"folded, channels-last": folded(last), "compiled": compiled(last)}
    for name in list(variants)[1:]:
        speed = flops_of_clip * options.batch / seconds[name]
        rows[name] = {
            "clips_per_second": options.batch / seconds[name],
            "gflops": speed / 1e9,
            "share_of_matrix_product": speed / rate,
            "first_call_seconds": first[name] - seconds[name],
        }
        if name in outputs:
            rows[name] |= {"max_abs_difference_of_float64": float((outputs[name][:1].double() - exact).abs().max())}  # type: ignore[operator]
    return {"threads": torch.get_num_threads(), "gflop_per_clip": flops_of_clip / 1e9, **rows}


def matrix_product() -> Callable[[], object]:
    """Ten products of 2048 x 2048 float32 matrices: what the machine can do."""
    a = torch.rand(SIDE, SIDE)
    return lambda: [a @ a for _ in range(BLAS_ROUNDS)]


@torch.inference_mode()
def flops(network: I3D) -> int:
    """Floating-point operations of one clip, a multiplication and an addition counted as two."""
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, FRAMES, 224, 224))
    return counter.get_total_flops()


def noisy_scenes(n: int, seed: int) -> UInt8[np.ndarray, "N T H W C"]:
    """Smooth random frames that differ from clip to clip, 240 x 320."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 4, 8, 10, generator=generator)
    fine = F.interpolate(coarse, (FRAMES, 240, 320), mode="trilinear")
    return (255 * fine).to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous().numpy()


def arrays_speed(options: Arrays) -> dict[str, object]:
    """See `Arrays`."""
    real, fake = noisy_scenes(options.clips, 1), noisy_scenes(options.clips, 2)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "i3d_pretrained_400.pt"
        torch.save(recipe_weights(), weights)
        for name, array in (("real", real), ("fake", fake)):
            np.save(Path(folder) / f"{name}.npy", array)
        network = load_i3d(weights, "cdfvd", compiled=options.compiled)
        reduced = load_i3d(weights, "cdfvd", precision="bfloat16")

        def ours(judge: I3DFeatures = network) -> float:
            rows = [embed_arrays([side], judge, batch_size=judge.batch).features.embedding for side in (real, fake)]
            a, b = map(Gaussian.of, rows)
            return frechet_distance(a, b, ddof=FVD["cdfvd"].ddof)

        compile_seconds = first_call(lambda: network.embed(real[: network.batch]))
        values: dict[str, list[float]] = {"ours": [], "cd-fvd": []}
        seconds: dict[str, list[float]] = {"ours": [], "cd-fvd": []}
        for _ in range(options.rounds):
            began = time.perf_counter()
            values["ours"].append(ours())
            seconds["ours"].append(time.perf_counter() - began)
            if options.peer is not None:
                paths = [str(weights), f"{folder}/real.npy", f"{folder}/fake.npy", str(torch.get_num_threads())]
                words = [str(options.peer), "-c", PEER, *paths]
                process = subprocess.run(words, capture_output=True, text=True, check=True)
                peer = json.loads(process.stdout.strip().splitlines()[-1])
                values["cd-fvd"].append(peer["fvd"])
                seconds["cd-fvd"].append(peer["seconds"])
        in_halves = ours(reduced)
    return {
        "first_call_seconds": compile_seconds,
        **_side_by_side(values, seconds, 2 * options.clips),
        "bfloat16": {"fvd": in_halves, "relative_difference_of_float32": in_halves / values["ours"][-1] - 1},
    }


def files_of(folder: Path, wanted: int) -> tuple[list[Video], dict[str, object]]:
    """The first video files of a folder, and the facts to report: fewer files than requested are named there."""
    videos = [video for video in list_videos(folder) if video.kind == "file"][:wanted]
    if len(videos) == wanted:
        return videos, {"clips": wanted}
    print(f"{wanted} clips were requested, {folder.name} holds {len(videos)}: these are measured", file=sys.stderr)
    return videos, {"clips": len(videos), "asked_for": wanted}


def files_speed(options: Files) -> dict[str, object]:
    """See `Files`. Both sides read the first 16 frames of each video file, at 240 x 320."""
    videos, about = files_of(options.folder, options.clips)
    halves = [videos[0::2], videos[1::2]]
    network = drawn_i3d(compiled=options.compiled)
    plain = build_i3d(recipe_weights(), epsilon=FVD["cdfvd"].epsilon)

    def ours() -> float:
        rows = []
        for half in halves:
            clips = [Clip(video.name, 0, FRAMES) for video in half]
            embedded = embed_clips(clips, {v.name: v for v in half}, network, recipe={}, batch_size=network.batch)
            rows.append(embedded.features.embedding)
        return frechet_distance(*map(Gaussian.of, rows), ddof=0)

    def straightforward() -> float:
        rows = []
        for half in halves:
            decoded = np.stack([video.read()[:FRAMES] for video in half])
            batches = [decoded[i : i + PEER_BATCH] for i in range(0, len(half), PEER_BATCH)]
            rows.append(np.concatenate([_logits(plain, batch) for batch in batches]))
        means, covariances = [r.mean(0) for r in rows], [np.cov(r, rowvar=False, ddof=0) for r in rows]
        root = sqrtm(covariances[0] @ covariances[1])
        return float(((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root.real))

    compile_seconds = first_call(
        lambda: network.embed(np.stack([v.read(0, FRAMES) for v in halves[0][: network.batch]]))
    )
    values: dict[str, list[float]] = {"ours": [], "straightforward": []}
    seconds: dict[str, list[float]] = {"ours": [], "straightforward": []}
    for _ in range(options.rounds):
        for name, variant in (("ours", ours), ("straightforward", straightforward)):
            began = time.perf_counter()
            values[name].append(variant())
            seconds[name].append(time.perf_counter() - began)
    return {**about, "first_call_seconds": compile_seconds, **_side_by_side(values, seconds, len(videos))}


def stages_speed(options: Stages) -> dict[str, object]:
    """See `Stages`. The resize is on one thread as ever, the network and the matrix product on all."""
    videos, about = files_of(options.folder, options.clips)
    network = drawn_i3d(batch=options.batch, compiled=options.compiled)
    decoded = [video.read(0, FRAMES) for video in videos]
    ready = [network.prepare(frames) for frames in decoded]
    random = np.random.default_rng(0)
    real, fake = (random.standard_normal((ROWS, 400)) for _ in range(2))
    stages: dict[str, tuple[int, Callable[[], object]]] = {
        "decode": (len(videos), lambda: [video.read(0, FRAMES) for video in videos]),
        "resize": (len(videos), lambda: [network.prepare(frames) for frames in decoded]),
        "network": (len(videos), lambda: network.embed_prepared(ready)),
        "statistics": (2 * ROWS, lambda: frechet_score(real, fake)),
    }
    first = first_call(stages["network"][1])
    product = {"matrix product": matrix_product()}
    seconds = in_turn(product | {name: call for name, (_, call) in stages.items()}, options.rounds)
    middle = {name: statistics.median(each) for name, each in seconds.items()}
    rate, work = BLAS_ROUNDS * 2 * SIDE**3 / middle["matrix product"], flops(build_i3d(recipe_weights(), epsilon=1e-5))
    rows = {
        name: {"clips_per_second": n / middle[name], "seconds_per_clip": middle[name] / n}
        for name, (n, _) in stages.items()
    }
    one_by_one = sum(row["seconds_per_clip"] for row in rows.values())
    return {
        **about,
        "threads": torch.get_num_threads(),
        "first_call_seconds": first - middle["network"],
        **rows,
        "one after the other": {"clips_per_second": 1 / one_by_one},
        "floor": {"clips_per_second": rate / work, "matrix_product_gflops": rate / 1e9, "gflop_per_clip": work / 1e9},
    }


@torch.inference_mode()
def _logits(network: I3D, videos: UInt8[np.ndarray, "N T H W C"]) -> Float[np.ndarray, "N 400"]:
    """A batch as a straightforward script does it."""
    n = len(videos)
    frames = torch.from_numpy(videos).flatten(0, 1).permute(0, 3, 1, 2).float().contiguous()
    sized = F.interpolate(frames, (224, 224), mode="bilinear", align_corners=False)
    clips = sized.unflatten(0, (n, FRAMES)).transpose(1, 2).contiguous()
    return as_published(network, 2 * clips / 255 - 1).double().numpy()


def _side_by_side(
    values: Mapping[str, list[float]], seconds: Mapping[str, list[float]], clips: int
) -> dict[str, object]:
    rows: dict[str, object] = {}
    for name, each in seconds.items():
        if each:
            middle = statistics.median(each)
            rows[name] = {"fvd": values[name][-1], "seconds": each, "clips_per_second": clips / middle}
    names = list(rows)
    if len(names) == 2:
        ours, theirs = (statistics.median(seconds[name]) for name in names)
        rows["times_as_fast"] = theirs / ours
        difference = values[names[0]][-1] / values[names[1]][-1] - 1
        rows["relative_difference"] = difference
        rows["equal_results"] = "yes" if abs(difference) <= EQUAL else f"FAILED: they differ by more than {EQUAL:g}"
    return rows


def memory(options: Memory) -> dict[str, object]:
    """See `Memory`. One process per n."""
    if not options.one:
        peaks = {}
        for n in options.n:
            one = ["memory", "--one", "--folder", str(options.folder), "--n", str(n)]
            words = [sys.executable, "-m", "bench.studies.metrics_speed", *one]
            process = subprocess.run(words, capture_output=True, text=True, check=True)
            peaks[str(n)] = json.loads(process.stdout)
        return {"peak_bytes": peaks}
    videos = [video for video in list_videos(options.folder) if video.kind == "file"]
    network = drawn_i3d()
    clips = [Clip(videos[i % len(videos)].name, i // len(videos), FRAMES) for i in range(options.n[0])]
    embedded = embed_clips(clips, {video.name: video for video in videos}, network, recipe={}, batch_size=network.batch)
    frechet_score(embedded.features.embedding[0::2], embedded.features.embedding[1::2])
    return {"clips": len(embedded.clips), "bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


def _networks(options: Vision, folder: str) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """Our network and the plain path, with the same weights."""
    if options.network == "videomae":
        network = VideoMae(depth=options.depth).eval()

        def written_out(clips: Tensor) -> Tensor:
            with mock.patch.object(F, "scaled_dot_product_attention", textbook):
                return network(clips)

        return network, written_out
    if options.network == "dino":
        of_frames = ViTModel(ViTConfig(layer_norm_eps=1e-6), add_pooling_layer=False).eval()
        of_frames.save_pretrained(folder)
        of_frames.set_attn_implementation("eager")
        loaded = load_dino(folder).network
        assert isinstance(loaded, nn.Module)
        return loaded, lambda x: torch.cat([of_frames(frame[None]).last_hidden_state[:, 0] for frame in x])
    tower = CLIPVisionModelWithProjection(CLIPVisionConfig(patch_size=32)).eval()
    tower.save_pretrained(folder)
    tower.set_attn_implementation("eager")
    loaded = load_clip(folder).network
    assert isinstance(loaded, nn.Module)
    return loaded, lambda x: tower(x).image_embeds


@threads(1)
@torch.inference_mode()
def vision_speed(options: Vision) -> dict[str, object]:
    """See `Vision`. Seconds are this thread's processor time, which other work on the machine hardly changes."""
    torch.manual_seed(0)
    shape = (options.rows, 3, *((FRAMES,) if options.network == "videomae" else ()), 224, 224)
    x = torch.randn(shape)
    with tempfile.TemporaryDirectory() as folder:
        network, plain = _networks(options, folder)
    variants = {"plain": lambda: plain(x), "ours": lambda: network(x)}
    if options.compiled:
        compiled = torch.compile(network, dynamic=False, options={"freezing": True})
        variants["compiled"] = lambda: compiled(x)
    outputs = {name: variant() for name, variant in variants.items()}
    seconds = in_turn(variants | {"matrix product": matrix_product()}, options.rounds, time.thread_time)
    middle = {name: statistics.median(each) for name, each in seconds.items()}
    with FlopCounterMode(display=False) as counter:
        network(x)
    work, rate = counter.get_total_flops(), BLAS_ROUNDS * 2 * SIDE**3 / middle["matrix product"]
    scale = outputs["plain"].abs().max()
    rows = {
        name: {
            "seconds_per_row": middle[name] / options.rows,
            "times_as_fast_as_plain": statistics.median(
                a / b for a, b in zip(seconds["plain"], seconds[name], strict=True)
            ),
            "share_of_matrix_product": work / middle[name] / rate,
            "largest_relative_difference": float((outputs[name] - outputs["plain"]).abs().max() / scale),
        }
        for name in variants
    }
    return {"gflop_per_row": work / options.rows / 1e9, "matrix_product_gflops": rate / 1e9, **rows}


Verb = (
    Annotated[Network, tyro.conf.subcommand("i3d")]
    | Annotated[Arrays, tyro.conf.subcommand("arrays")]
    | Annotated[Files, tyro.conf.subcommand("files")]
    | Annotated[Stages, tyro.conf.subcommand("stages")]
    | Annotated[Memory, tyro.conf.subcommand("memory")]
    | Annotated[Vision, tyro.conf.subcommand("vision")]
)


def main() -> None:
    """Parse, measure, print JSON; exit code 2 where results differ that should not."""
    work: dict[type, Callable[[Any], dict[str, object]]] = {
        Network: network_speed, Arrays: arrays_speed, Files: files_speed, Stages: stages_speed, Memory: memory,
        Vision: vision_speed,
    }  # fmt: skip
    verb: object = tyro.cli(Verb, prog="python -m bench.studies.metrics_speed", description=__doc__)
    report = work[type(verb)](verb)
    print(json.dumps(report, indent=1))
    if report.get("equal_results", "yes") != "yes":
        sys.exit(INVALID)


if __name__ == "__main__":
    sys.exit(obey("bench.studies.metrics_speed", main))
