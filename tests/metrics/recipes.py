"""Inputs and weights of the golden page's recipes for networks and frames."""

import numpy as np

from tests.metrics.goldens import FOLDER, rng


def pattern(frames: int, height: int, width: int) -> np.ndarray:
    """The ramp that the golden page calls clip 1: T H W C."""
    t, y, x, c = np.ogrid[:frames, :height, :width, :3]
    return ((2 * (c + 1) * x + 3 * y + 7 * (c + 1) * t) % 256).astype(np.uint8)


def frames_to_resize(height: int, width: int) -> np.ndarray:
    """Two frames of noise, then two of the ramp: 1 4 H W C."""
    noise = rng(f"golden/pre/{height}x{width}").integers(0, 256, size=(2, height, width, 3), dtype=np.uint8)
    return np.concatenate([noise, pattern(2, height, width)])[None]


def i3d_clips(frames: int) -> np.ndarray:
    noise = rng("golden/i3d/noise").integers(0, 256, size=(32, 224, 224, 3), dtype=np.uint8)
    return np.stack([noise, pattern(32, 224, 224)])[:, :frames]


def c3d_clips(size: int) -> np.ndarray:
    noise = rng(f"c3d/noise/{size}").integers(0, 256, size=(16, size, size, 3), dtype=np.uint8)
    return np.stack([noise, pattern(16, size, size)])


def c3d_mean() -> np.ndarray:
    return (80 + 40 * rng("c3d/mean").random((3, 16, 128, 171))).astype(np.float32)


def filled(name: str, shape: tuple[int, ...], gain: float = 2**0.5) -> np.ndarray:
    """One tensor of the recipe weights, from its own name."""
    draw = rng(name)
    if name.endswith(".num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith(".weight") and len(shape) > 1:
        values = draw.standard_normal(shape) * (gain * np.prod(shape[1:]) ** -0.5)
    elif name.endswith(".weight"):
        values = 1 + 0.1 * draw.standard_normal(shape)
    elif name.endswith(".running_var"):
        values = 1 + 0.1 * draw.random(shape)
    else:
        values = 0.1 * draw.standard_normal(shape)
    return values.astype(np.float32)


def sample(array: np.ndarray, n: int) -> np.ndarray:
    flat = array.reshape(-1)
    return flat[[i * (flat.size - 1) // (n - 1) for i in range(n)]]


def arrays(name: str) -> dict[str, np.ndarray]:
    """A golden .npz as a dict."""
    with np.load(FOLDER / name) as file:
        return dict(file)
