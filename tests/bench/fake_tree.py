"""Source trees that a gate can measure in seconds: a few matrix products for a network, faults planted on demand."""

from pathlib import Path

GENERATOR = """
import time
import numpy as np
import torch

HELD = []
FAULTS = {faults}


class Net(torch.nn.Module):
    config = {{"width": 64, "_name_or_path": __file__}}

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(64, 64)

    def forward(self, x, timestep, encoder_hidden_states=None):
        return self.layer(x) + timestep


class Pipe:
    def __init__(self):
        self.unet = Net()

    def decode(self, latents, clip=None):
        return ((latents.detach() - 0.5).clamp(0, 1) * 255).round().to(torch.uint8).numpy()[..., None].repeat(3, -1)


class Generator:
    def __init__(self, values):
        self.faults = dict.fromkeys(FAULTS, 0) if values["method"] == "sound" else FAULTS
        if self.faults["crash"]:
            raise KeyError(values["method"])
        self.pipe = Pipe()

    def make(self, prompts, first, steps):
        began, faults = time.perf_counter(), self.faults
        if faults["hang"]:
            time.sleep(60)
        x = torch.full((len(prompts), 4, 64, 64), 0.5)
        bias = faults["bias"] + (faults["seed"] if first else 0)
        with torch.no_grad():
            for step in range(steps + faults["steps"]):
                x = torch.tanh(self.pipe.unet(x, torch.tensor(step))) + bias
                for _ in range(faults["extra"]):
                    x = x @ torch.eye(64)
        if faults["leak"]:
            HELD.append(torch.zeros(1 << 18))
        if faults["nan"]:
            x = x * float("nan")
        videos = self.pipe.decode(x, clip=4)
        took = time.perf_counter() - began
        while time.perf_counter() - began < (1 + faults["spin"]) * took:
            pass
        return videos, None
"""

WORLD = """
TEST_SEEDS = range(100)


def draw_scene(seed):
    return seed


def caption(scene):
    return f"scene {scene}"
"""


def plant(
    folder: Path,
    *,
    steps=0,  # more than the cell's
    spin=0.0,  # share of its time that it wastes
    leak=False,  # keep a megabyte per batch
    bias=0.0,  # added to the latents at every step
    crash=False,
    hang=False,
    nan=False,
    extra=0,  # more matrix products per step
    seed=0.0,  # added to the latents at every step, in every batch but the first
    old=False,  # the files have the names that they had before they were moved
) -> Path:
    """Write a tree with these faults, which every method has but the one named "sound"."""
    generator, world = (
        ("bench/pocket.py", "vidrd/data/shapes.py") if old else ("bench/videos/generator.py", "vidrd/pocket/world.py")
    )
    for path in (generator, world):
        package = (folder / path).parent
        package.mkdir(parents=True)
        for each in {package, folder / path.split("/")[0]}:
            (each / "__init__.py").touch()
    faults = {
        "steps": steps, "spin": spin, "leak": leak, "bias": bias, "crash": crash, "hang": hang, "nan": nan,
        "extra": extra, "seed": seed,
    }  # fmt: skip
    (folder / generator).write_text(GENERATOR.format(faults=faults))
    (folder / world).write_text(WORLD)
    return folder
