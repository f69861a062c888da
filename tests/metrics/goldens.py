"""The recipes that rebuild the inputs of the golden values (tests/golden/metrics/README.md)."""

import json
import zlib
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[1] / "golden" / "metrics"


def golden(name: str) -> dict:
    return json.loads((FOLDER / name).read_text())


def rng(name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode("utf-8"))))


def feature_pair(tag: str, n: int, m: int, d: int, scale: float, shift: float) -> tuple[np.ndarray, np.ndarray]:
    w = rng(f"fd/{tag}/w").standard_normal((d, d)) / np.sqrt(d)
    x = rng(f"fd/{tag}/x").standard_normal((n, d)) @ w
    y = rng(f"fd/{tag}/y").standard_normal((m, d)) @ w * scale + shift
    return x.astype(np.float32), y.astype(np.float32)


def feature_sets() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    a = feature_pair("A", 256, 256, 64, 1.1, 0.25)
    d = feature_pair("D", 256, 256, 64, 1.0, 0.0)
    s = np.exp(-np.arange(400) / 40)
    w = rng("fd/F/w").standard_normal((400, 400)) / 20
    f = (
        (((rng("fd/F/x").standard_normal((2048, 400)) * s) @ w) * 4).astype(np.float32),
        (((rng("fd/F/y").standard_normal((2048, 400)) * s) @ w) * 4.4 + 0.1).astype(np.float32),
    )
    return {
        "A_n256_d64": a,
        "B_n50_d400_rankdef": feature_pair("B", 50, 50, 400, 1.1, 0.25),
        "C_identical": (a[0], a[0]),
        "D_tiny_variance": (np.float32(5 + 1e-4 * d[0]), np.float32(5.001 + 1e-4 * d[1])),
        "F_n2048_d400": f,
    }


def class_logits(n: int) -> np.ndarray:
    logits = 3 * rng(f"is/logits/{n}").standard_normal((n, 101))
    logits[np.arange(n), np.arange(n) % 101] += 6
    return logits.astype(np.float32)


def textured(dx: int) -> np.ndarray:
    """A 64 x 64 texture moved by dx pixels, as int64 in 0..255."""
    y, x, c = np.ogrid[:64, :64, :3]

    def tent(u: np.ndarray) -> np.ndarray:
        return np.abs(u % 128 - 64)

    return 32 + tent(4 * (x + dx) + 2 * y + 20 * c) + tent(2 * (x + dx) - 6 * y + 40 * c)


def jitter_videos() -> dict[str, np.ndarray]:
    """The videos of 16 frames, each (1, 16, 64, 64, 3) uint8."""
    t = np.arange(16)
    translate2 = [textured(2 * i) for i in t]
    noise = rng("vb/noise").standard_normal((16, 64, 64, 3))
    still = np.stack([textured(0)] * 16)
    videos = {
        "static": still,
        "translate2": translate2,
        "translate1": [textured(i) for i in t],
        "accelerate": [textured(i * i // 4) for i in t],
        "shake": [textured(2 * i + 3 * (i % 2)) for i in t],
        "shuffle": np.stack(translate2)[rng("vb/shuffle").permutation(16)],
        "cut8": [192 - textured(2 * i) if i >= 8 else textured(2 * i) for i in t],
        "seam8_jump9": [textured(2 * i + 9 * (i >= 8)) for i in t],
        "seam8_reverse": [textured(2 * i if i < 8 else 2 * (15 - i)) for i in t],
        "flicker10": [textured(0) + 10 * (i % 2) for i in t],
        "translate2_flicker10": [textured(2 * i) + 10 * (i % 2) for i in t],
        "brightness_ramp": [textured(0) + 2 * i for i in t],
        "noise8": np.clip(np.rint(still + 8 * noise), 0, 255),
        "translate2_noise8": np.clip(np.rint(np.stack(translate2) + 8 * noise), 0, 255),
        "uniform": rng("vb/uniform").integers(0, 256, size=(16, 64, 64, 3), dtype=np.uint8),
    }
    return {name: np.asarray(video).astype(np.uint8)[None] for name, video in videos.items()}


def chunked_videos() -> dict[str, np.ndarray]:
    """The videos of 33 frames in chunks of 8."""
    t = np.arange(33)
    noise = [rng(f"jp/n{i}").standard_normal((64, 64, 3)) for i in t]
    jump = [textured(2 * i + 3 * (i // 8)) for i in t]
    videos = {
        "smooth": [textured(2 * i) for i in t],
        "jump3_each_chunk": jump,
        "brightness_step4_each_chunk": [textured(2 * i) + 4 * (i // 8 % 2) for i in t],
        "noisy_smooth": [np.clip(np.rint(textured(2 * i) + 4 * noise[i]), 0, 255) for i in t],
        "noisy_jump3": [np.clip(np.rint(jump[i] + 4 * noise[i]), 0, 255) for i in t],
    }
    return {name: np.asarray(video).astype(np.uint8)[None] for name, video in videos.items()}
