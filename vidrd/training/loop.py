"""One training loop for every stage.

What happens in a step depends on the recipe's seed and the step's number alone (batch, noise, dropout), so a run that
was cut off and resumed is, bit for bit on one machine, the run that was not.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

StepLoss = Callable[[int, torch.Generator], tuple[Tensor, dict[str, Tensor]]]  # step -> loss, what to log


@dataclass(frozen=True)
class Recipe:
    """How a stage is trained."""

    steps: int
    batch: int
    learning_rate: float = 1e-3
    warmup: int = 100  # steps; then a cosine falls to zero
    weight_decay: float = 0.01
    ema: float = 0.999  # decay of the averaged weights, which are the result
    clip_norm: float = 1.0  # greatest norm of all gradients together
    precision: str = "bf16"  # of the forward pass: no | bf16 | fp16; the weights stay float32
    seed: int = 0
    save_every: int = 250  # steps


def fit(
    modules: Mapping[str, nn.Module],
    loss: StepLoss,
    recipe: Recipe,
    folder: Path,
    *,
    log_every: int = 20,  # steps
) -> None:
    """Train the parameters of `modules` that require a gradient; leave the averaged weights in them.

    Writes `log.jsonl` (one line every `log_every` steps) and `state.pt` into `folder`; finds them there to resume.

    Raises:
        ValueError: `folder` holds a run of another recipe, or the loss is no longer finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(mixed_precision=recipe.precision)
    parameters = {
        f"{name}.{key}": p for name, m in modules.items() for key, p in m.named_parameters() if p.requires_grad
    }
    optimizer = torch.optim.AdamW(
        list(parameters.values()), recipe.learning_rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, recipe.warmup, recipe.steps)
    ema = EMAModel(list(parameters.values()), decay=recipe.ema)
    first = _resume(folder, recipe, parameters, optimizer, schedule, ema)
    optimizer = accelerator.prepare(optimizer)
    for module in modules.values():
        module.train()

    started, sums, counted = time.perf_counter(), dict[str, Tensor](), 0
    with (folder / "log.jsonl").open("a") as log, _progress(folder.name, recipe.steps, first) as advance:
        for step in range(first, recipe.steps):
            generator = keyed_generator(recipe.seed, step)
            torch.manual_seed(generator.initial_seed())  # dropout reads the global generator
            with accelerator.autocast():
                value, parts = loss(step, generator)
            accelerator.backward(value)
            accelerator.clip_grad_norm_(list(parameters.values()), recipe.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            ema.step(list(parameters.values()))

            counted += 1
            for key, part in {"loss": value, **parts}.items():
                sums[key] = sums.get(key, torch.zeros((), device=part.device)) + part.detach().float()
            if (step + 1) % log_every == 0 or step + 1 == recipe.steps:
                means = {key: round(float(total) / counted, 6) for key, total in sums.items()}
                seconds = round((time.perf_counter() - started) / (step + 1 - first), 4)
                if not all(abs(mean) < float("inf") for mean in means.values()):
                    raise ValueError(f"the loss must stay finite; after step {step} it is {means}: lower learning_rate")
                log.write(json.dumps({"step": step + 1, **means, "seconds_per_step": seconds}, allow_nan=False) + "\n")
                log.flush()
                advance(step + 1, means["loss"])
                sums, counted = {}, 0
            if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
                _save(folder, recipe, step + 1, parameters, optimizer, schedule, ema)
    ema.copy_to(list(parameters.values()))
    for module in modules.values():
        module.eval()


def keyed_generator(*key: int | str) -> torch.Generator:
    """A CPU generator that depends on the key alone."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def _save(
    folder: Path, recipe: Recipe, step: int, parameters: Mapping[str, Tensor], optimizer: Any, schedule: Any, ema: Any
) -> None:
    state = {
        "recipe": json.dumps(asdict(recipe)),
        "step": step,
        "parameters": {key: p.detach() for key, p in parameters.items()},
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "ema": ema.state_dict(),
    }
    beside = folder / "state.pt.part"
    torch.save(state, beside)
    os.replace(beside, folder / "state.pt")


def _resume(
    folder: Path, recipe: Recipe, parameters: Mapping[str, Tensor], optimizer: Any, schedule: Any, ema: Any
) -> int:
    """Load the state of an earlier run of the same recipe; the step to go on with."""
    path = folder / "state.pt"
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    if json.loads(state["recipe"]) != asdict(recipe):
        raise ValueError(
            f"{folder} holds a run of another recipe ({state['recipe']}): name another folder, or delete it to restart"
        )
    with torch.no_grad():
        for key, p in parameters.items():
            p.copy_(state["parameters"][key])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    ema.load_state_dict(state["ema"])
    return int(state["step"])


class _progress:  # noqa: N801 - used as a function
    """A bar with an estimate on a terminal; a line now and then elsewhere."""

    def __init__(self, name: str, steps: int, first: int):
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TimeRemainingColumn(),
        )
        self.task = self.bar.add_task(name, total=steps, completed=first, loss=float("nan"))
        self.name, self.steps, self.first = name, steps, first
        self.started = self.said = time.perf_counter()

    def __enter__(self) -> Callable[[int, float], None]:
        self.bar.start()
        return self.advance

    def __exit__(self, *exc: object) -> None:
        self.bar.stop()

    def advance(self, step: int, loss: float) -> None:
        self.bar.update(self.task, completed=step, loss=loss)
        now = time.perf_counter()
        if not self.bar.console.is_terminal and now - self.said > 30:
            left = (now - self.started) / (step - self.first) * (self.steps - step)
            print(f"{self.name}: step {step} of {self.steps}, loss {loss:.4f}, {left / 60:.1f} min left", flush=True)
            self.said = now
