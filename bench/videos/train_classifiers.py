"""Train the pocket classifiers, which read FVD, Inception Score and accuracies off pocket videos, on real pocket
videos.

    python -m bench.videos.train_classifiers --out weights/pocket-judges --steps 1200 --seed 0

They never see a generated video, and no real one twice. Half the batches hold windows of 16 frames and half of 8, at
random times; a quarter of every batch is blurred and a quarter noisy by less than a person would mind, so that what a
decoder blurs is still recognized.
"""

import json
import platform
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import tyro
from jaxtyping import Float, Float32, Int, UInt8
from safetensors.torch import save_file
from torch import Generator, Tensor
from torch.nn import functional as F

from metrics.networks.features import extract
from metrics.networks.pocket import (
    MIN_FRAMES,
    NETWORKS,
    PocketClassifier,
    PocketFeatureExtractor,
    describe,
    load_classifier,
)
from metrics.videos.frames import to_network
from vidrd.entry import obey
from vidrd.files import replacing, write_atomic
from vidrd.pocket.world import ATTRIBUTES, TEST_SEEDS, TRAIN_SEEDS, draw_scene, labels, render

FILES = {"pocket-i3d": "i3d.safetensors", "pocket-c3d": "c3d.safetensors"}
HEADS = {"pocket-i3d": tuple(ATTRIBUTES), "pocket-c3d": ("action",)}
WEIGHT = {"action": 3.0}  # in the loss; the other heads count 1 and are learned much sooner
LONGEST = 16  # frames
BATCH = 64  # videos a step
HORIZON = 64.0  # units of time within which a window may start


def train_classifiers(
    out: Path,
    *,
    steps: int = 1200,  # per classifier; every step sees new scenes
    held_out: int = 1024,  # real videos of other seeds to report on
    seed: int = 0,
    device: str = "cpu",
    log: Callable[[str], None] = print,
) -> dict[str, PocketFeatureExtractor]:
    """Train both classifiers and write their weights, with a card.json that says how they were made and what they
    reach.

    Returns:
        the classifiers as read back from the files.
    """
    out.mkdir(parents=True, exist_ok=True)
    classifiers, figures = {}, {}
    for name, file in FILES.items():
        began = time.perf_counter()
        classes = {head: ATTRIBUTES[head] for head in HEADS[name]}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = NETWORKS[name]({head: len(names) for head, names in classes.items()})
        network.to(device).to(memory_format=torch.channels_last_3d)
        losses = _train(network, steps=steps, seed=seed, log=log)
        _set_unit(network, draw_windows(TRAIN_SEEDS[:1024], seed=seed)[0])
        _save(network, out / file, describe(name, classes))
        classifiers[name] = load_classifier(out / file, device=device)
        reached = {
            str(frames): accuracy(classifiers[name], *draw_windows(TEST_SEEDS[:held_out], frames=frames, seed=seed))
            for frames in (MIN_FRAMES, LONGEST)
        }
        log(f"{name}: {reached}")
        figures[file] = {
            "sha256": classifiers[name].sha256,
            "seconds": round(time.perf_counter() - began),
            "loss": losses,
            "held_out_accuracy_by_frames": reached,
        }
    card = {
        "command": f"python -m bench.videos.train_classifiers --steps {steps} --seed {seed}",
        "data": "pocket world, real videos of its training seeds only",
        "held_out": f"the first {held_out} test seeds, at other times than the training windows",
        "precision": "bfloat16 autocast, float32 weights",
        "device": device,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "files": figures,
    }
    write_atomic(out / "card.json", json.dumps(card, indent=1, allow_nan=False) + "\n")
    return classifiers


def draw_windows(
    seeds: range, *, frames: int = LONGEST, seed: int = 0
) -> tuple[UInt8[np.ndarray, "N T H W C"], dict[str, Int[np.ndarray, " N"]]]:
    """Real videos of these seeds from random times on, and the index of each one's class in every attribute."""
    scenes = [draw_scene(each) for each in seeds]
    starts = np.random.default_rng([seed, seeds.start]).uniform(0, HORIZON, len(scenes))
    rows = [labels(scene) for scene in scenes]
    return render(scenes, frames, start=starts.tolist()), {
        head: np.array([row[head] for row in rows]) for head in ATTRIBUTES
    }


def accuracy(
    classifier: PocketFeatureExtractor,
    videos: UInt8[np.ndarray, "N T H W C"],
    wanted: Mapping[str, Int[np.ndarray, " N"]],
) -> dict[str, float]:
    """Share of videos in which the classifier sees the wanted class, for each of its heads."""
    seen = extract(classifier, videos).logits
    return {head: float((logits.argmax(axis=1) == wanted[head]).mean()) for head, logits in seen.items()}


def _train(
    network: PocketClassifier,
    *,
    steps: int,
    seed: int,
    log: Callable[[str], None],
) -> dict[str, float]:
    """Cross-entropy of all heads; returns some of the losses by step."""
    generator = Generator().manual_seed(seed)
    device = next(network.parameters()).device
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps, pct_start=0.1)
    network.train()
    losses = {}
    for step in range(steps):
        seeds = TRAIN_SEEDS[step * BATCH : (step + 1) * BATCH]
        videos, wanted = draw_windows(seeds, frames=LONGEST if step % 2 else MIN_FRAMES, seed=seed)
        clips = torch.from_numpy(to_network(videos))
        with torch.autocast(device.type, torch.bfloat16):
            _, logits = network(_worsen(clips, generator).to(device))
        loss = sum(
            (
                WEIGHT.get(head, 1.0)
                * F.cross_entropy(out.float(), torch.from_numpy(wanted[head]).to(device), label_smoothing=0.02)
                for head, out in logits.items()
            ),
            torch.zeros((), device=device),
        )
        if not loss.isfinite():
            raise ValueError(f"the loss at step {step + 1} is {loss.item()}: train in float32 or with another seed")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % max(1, steps // 12) == 0:
            losses[str(step + 1)] = round(loss.item(), 4)
            log(f"step {step + 1} of {steps}: loss {loss.item():.3f}")
    return losses


def _worsen(clips: Float32[Tensor, "B C T H W"], generator: Generator) -> Float32[Tensor, "B C T H W"]:
    """Blur the first quarter of the batch and add noise to the second, by random amounts."""
    quarter = len(clips) // 4
    amount = torch.rand(2, quarter, 1, 1, 1, 1, generator=generator)
    sharp, plain = clips[:quarter], clips[quarter : 2 * quarter]
    smooth = F.avg_pool3d(sharp, (1, 3, 3), stride=1, padding=(0, 1, 1), count_include_pad=False)
    noise = torch.randn(plain.shape, generator=generator)
    blurred, noisy = torch.lerp(sharp, smooth, amount[0] * 0.7), plain + noise * amount[1] * 0.06
    return torch.cat([blurred, noisy, clips[2 * quarter :]])


@torch.inference_mode()
def _set_unit(network: PocketClassifier, videos: UInt8[np.ndarray, "N T H W C"]) -> None:
    """Scale the embedding so that these videos' has a total variance of F."""
    network.eval()
    device = next(network.parameters()).device
    parts = [
        network(torch.from_numpy(to_network(videos[i : i + BATCH])).to(device))[0] for i in range(0, len(videos), BATCH)
    ]
    rows: Float[Tensor, "N F"] = torch.cat(parts)
    network.unit *= (rows.shape[1] / rows.var(dim=0).sum()).sqrt()


def _save(network: PocketClassifier, path: Path, metadata: dict[str, str]) -> None:
    tensors = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    with replacing(path) as part:
        save_file(tensors, part, metadata)


def main(out: Path = Path("weights/pocket-judges"), steps: int = 1200, seed: int = 0, device: str = "cpu") -> None:
    """Train the pocket classifiers on real pocket videos: some minutes on two cores."""
    train_classifiers(out, steps=steps, seed=seed, device=device)


if __name__ == "__main__":
    sys.exit(obey("bench.videos.train_classifiers", lambda: tyro.cli(main)))
