"""One training loop for every stage.

What happens in a step depends on the recipe's seed and the step's number alone (batch, noise, dropout), so a run that
was cut off and resumed is, bit for bit on one machine, the run that was not. Under `accelerate launch` every process
runs it on its part of each batch.
"""

import hashlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator, DistributedType
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from vidrd.training.log import RunLog, peak_bytes
from vidrd.training.settings import Stopped

StepLoss = Callable[[int, torch.Generator], tuple[Tensor, dict[str, Tensor]]]  # step -> loss, what to log


@dataclass(frozen=True)
class Recipe:
    """How a stage is trained."""

    steps: int
    batch: int
    learning_rate: float = 1e-3
    warmup: int = 100  # steps; then a cosine falls to zero
    weight_decay: float = 0.01
    ema: float | int = 0.999  # decay of the averaged weights, which are the result; 0: none are kept, the last are it
    clip_norm: float = 1.0  # greatest norm of all gradients together
    precision: str = "bf16"  # of the forward pass: no | bf16 | fp16; the weights stay float32
    seed: int = 0
    save_every: int = 250  # steps


_KINDS = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)


class Show(NamedTuple):
    """What to draw now and then, with the averaged weights in place."""

    every: int  # steps
    draw: Callable[[int], None]  # of the number of finished steps


class Objective(nn.Module):
    """The networks of a stage with what they minimise: one module, whose forward pass DDP can watch."""

    def __init__(self, networks: Mapping[str, nn.Module], loss: StepLoss):
        super().__init__()
        self.networks = nn.ModuleDict(networks)
        self._loss = loss

    def forward(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a step."""
        return self._loss(step, generator)


def fit(
    modules: Mapping[str, nn.Module],
    loss: StepLoss,
    recipe: Recipe,
    folder: Path,
    *,
    log_every: int = 20,  # steps
    show: Show | None = None,
    tensorboard: bool = False,
) -> None:
    """Train the parameters of `modules` that require a gradient; leave the averaged weights in them.

    Writes `log.jsonl` (one line every `log_every` steps), TensorBoard events if asked, and `state.pt` into `folder`;
    finds them there to resume. Where several processes run it, the gradients are the mean of theirs, so `loss` should
    be the mean over this process's part of the batch.

    Raises:
        ValueError: `folder` holds a run of another recipe, the loss is no longer finite, or accelerate is set to
            something else than DDP.
        Stopped: on SIGTERM, once the step is finished and the state saved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(mixed_precision=recipe.precision)
    if accelerator.distributed_type not in _KINDS:
        raise ValueError(
            f"several processes train by DDP, accelerate is set to {accelerator.distributed_type.value}: launch with "
            "--multi_gpu, or without --config_file"
        )
    objective: nn.Module = Objective(modules, loss).to(accelerator.device)
    parameters = {
        f"{name}.{key}": p for name, m in modules.items() for key, p in m.named_parameters() if p.requires_grad
    }
    trained = list(parameters.values())
    optimizer = torch.optim.AdamW(trained, recipe.learning_rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay)
    schedule = get_cosine_schedule_with_warmup(optimizer, recipe.warmup, recipe.steps)
    ema = EMAModel(trained if recipe.ema else [], decay=recipe.ema)
    state = _State(folder / "state.pt", recipe, parameters, optimizer, schedule, ema, accelerator.scaler)
    first = state.load()
    optimizer = accelerator.prepare(optimizer)
    if accelerator.num_processes > 1:
        objective = accelerator.prepare_model(objective)
    for module in modules.values():
        module.train()

    sums, counted = dict[str, Tensor](), 0
    log = RunLog(folder, recipe.steps, first, writes=accelerator.is_main_process, tensorboard=tensorboard)
    with log, _stop_requests() as stop_requested:
        for step in range(first, recipe.steps):
            generator = keyed_generator(recipe.seed, step)
            torch.manual_seed(generator.initial_seed() + accelerator.process_index)  # dropout reads the global one
            with accelerator.autocast():
                value, parts = objective(step, generator)
            accelerator.backward(value)
            accelerator.clip_grad_norm_(trained, recipe.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            ema.step(trained)

            done, counted = step + 1, counted + 1
            for key, part in {"loss": value, **parts}.items():
                sums[key] = sums.get(key, torch.zeros((), device=part.device)) + part.detach().float()
            stop = _any(stop_requested(), accelerator)
            if done % log_every == 0 or done == recipe.steps or stop:
                means = {key: round(float(accelerator.reduce(s, "mean")) / counted, 6) for key, s in sums.items()}
                if not all(abs(mean) < float("inf") for mean in means.values()):
                    raise ValueError(f"the loss must stay finite; after step {step} it is {means}: lower learning_rate")
                log.write(done, means, peak_bytes=peak_bytes())
                sums, counted = {}, 0
            if (done % recipe.save_every == 0 or done == recipe.steps or stop) and accelerator.is_main_process:
                state.save(done)
            if stop and done < recipe.steps:
                accelerator.wait_for_everyone()
                raise Stopped(f"stopped after step {done} of {recipe.steps}; the same command goes on from there")
            if show and accelerator.is_main_process and (done % show.every == 0 or done == recipe.steps):
                with _averaged(ema, trained, modules):
                    show.draw(done)
    ema.copy_to(trained)
    for module in modules.values():
        module.eval()
    accelerator.wait_for_everyone()


def keyed_generator(*key: int | str) -> torch.Generator:
    """A CPU generator that depends on the key alone."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


class _State(NamedTuple):
    """All that a resumed run needs, as one file."""

    path: Path
    recipe: Recipe
    parameters: Mapping[str, Tensor]
    optimizer: Any
    schedule: Any
    ema: Any
    scaler: Any  # of fp16's losses; None otherwise

    def save(self, step: int) -> None:
        """Write beside, then rename."""
        beside = self.path.with_suffix(".pt.part")
        torch.save(
            {
                "recipe": json.dumps(asdict(self.recipe)),
                "step": step,
                "parameters": {key: p.detach() for key, p in self.parameters.items()},
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "ema": self.ema.state_dict(),
                "scaler": self.scaler.state_dict() if self.scaler else None,
            },
            beside,
        )
        os.replace(beside, self.path)

    def load(self) -> int:
        """Put an earlier run's state into place, if there is one of the same recipe; the step to go on with."""
        if not self.path.exists():
            return 0
        state = torch.load(self.path, weights_only=True, map_location="cpu")
        # How often it saves changes nothing of what it learns.
        if {**json.loads(state["recipe"]), "save_every": 0} != {**asdict(self.recipe), "save_every": 0}:
            raise ValueError(
                f"{self.path.parent} holds a run of another recipe ({state['recipe']}): name another folder, or delete "
                "it to restart"
            )
        if state["parameters"].keys() != self.parameters.keys():
            raise ValueError(
                f"{self.path.parent} holds a run that trained other layers: name another folder, or delete it"
            )
        with torch.no_grad():
            for key, p in self.parameters.items():
                p.copy_(state["parameters"][key])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.ema.load_state_dict(state["ema"])
        self.ema.to(device=next(iter(self.parameters.values())).device)
        if self.scaler and state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        return int(state["step"])


@contextmanager
def _averaged(ema: EMAModel, trained: list[nn.Parameter], modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """The averaged weights and evaluation mode; then as before."""
    ema.store(trained)
    ema.copy_to(trained)
    for module in modules.values():
        module.eval()
    try:
        yield
    finally:
        ema.restore(trained)
        for module in modules.values():
            module.train()


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Note SIGTERM instead of dying of it; only a main thread can."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.set())
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def _any(flag: bool, accelerator: Accelerator) -> bool:
    """Whether any process says so."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device), "sum") > 0)
