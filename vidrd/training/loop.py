"""One training loop for every stage.

What happens in a step depends on the recipe's seed and the step's number alone (batch, noise, dropout), so a run that
was cut off and resumed is, bit for bit on one machine, the run that was not. Under `accelerate launch` every process
runs it on its part of each batch, with the networks whole (DDP) or divided among them (FSDP).
"""

import hashlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator, DistributedType, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import parse_flag_from_env
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from jaxtyping import UInt8
from numpy import ndarray
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from vidrd.training.hyperparameters import Recipe
from vidrd.training.log import RunLog, peak_bytes
from vidrd.training.settings import Stopped
from vidrd.training.sharding import divide, whole
from vidrd.training.state import State

StepLoss = Callable[[int, torch.Generator], tuple[Tensor, dict[str, Tensor]]]  # step -> loss, what to log
Networks = Mapping[str, nn.Module]


_KINDS = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)


class Show(NamedTuple):
    """A function that draws samples at intervals, with the averaged weights in place."""

    every: int  # steps
    draw: Callable[[int, Networks], UInt8[ndarray, "H W 3"]]  # of finished steps and the averaged networks


class Validation(NamedTuple):
    """A function that measures losses at intervals, with the averaged weights in place."""

    every: int  # steps
    measure: Callable[[Networks], dict[str, float]]  # "validation" decides which state is the best


class Objective(nn.Module):
    """The networks of a stage with the loss that they minimize: one module, whose forward pass DDP can watch."""

    def __init__(self, networks: Networks, loss: StepLoss):
        super().__init__()
        self.networks = nn.ModuleDict(networks)
        self._loss = loss

    def forward(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a step."""
        return self._loss(step, generator)


def fit(
    modules: Networks,
    loss: StepLoss,
    recipe: Recipe,
    folder: Path,
    *,
    log_every: int = 20,  # steps
    show: Show | None = None,
    validation: Validation | None = None,
    keep: int = 1,  # states
    tensorboard: bool = False,
    shard: bool = False,
    accumulate: int = 1,  # calls of `loss` for each step, numbered on, whose gradients are averaged
) -> Networks:
    """Train the parameters of `modules` that require a gradient.

    Writes `log.jsonl` (one line every `log_every` steps, and one of every validation), TensorBoard events if asked, and
    `state.pt` into `folder`; finds them there to resume. Where several processes run it, the gradients are the mean of
    theirs, so `loss` should be the mean over this process's part of the batch. With `shard` they divide the networks
    among them as well, which `loss` may then only call, and not read the weights of.

    Returns:
        The networks with the averaged weights: `modules` themselves; if they are divided, whole ones on the CPU of the
        first process and empty ones elsewhere.

    Raises:
        ValueError: `folder` holds a run of another recipe, the loss is no longer finite, accelerate is set to something
            else than DDP, or `shard` meets one process or fp16.
        Stopped: on SIGTERM or Ctrl-C, once the step is finished and the state saved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = _accelerator(recipe.precision, shard=shard)
    objective: nn.Module = Objective(modules, loss).to(accelerator.device)
    empty = divide(modules, accelerator.device.type) if shard else {}
    training = _Training(modules, objective, recipe, accelerator, accumulate, empty)
    first = training.begin(folder, keep)
    log = RunLog(folder, recipe.steps, first, writes=accelerator.is_main_process, tensorboard=tensorboard)
    with log, _stop_requests() as stop_requested:
        for step in range(first, recipe.steps):
            training.descend(step)
            done, last = step + 1, step + 1 == recipe.steps
            stop = int(_most(stop_requested(), accelerator))
            is_best = (
                validation is not None
                and (done % validation.every == 0 or last)
                and training.validate(done, validation, log)
            )
            training.write(done, log, whole=done % log_every == 0 or last, asked=bool(stop))
            if done % recipe.save_every == 0 or last or stop or is_best:
                training.state.save(done, accelerator, is_best=is_best)
            if stop and not last:
                accelerator.wait_for_everyone()
                say = f"stopped after step {done} of {recipe.steps}; the same command goes on from there"
                raise Stopped(say, 128 + stop)
            if show and (done % show.every == 0 or last):
                training.show(done, show, log)
    learned = _whole(training.ema, training.trained, modules, empty)
    accelerator.wait_for_everyone()
    return learned


class _Training:
    """The networks of a run with all that changes from step to step."""

    def __init__(
        self,
        modules: Networks,
        objective: nn.Module,
        recipe: Recipe,
        accelerator: Accelerator,
        accumulate: int,
        empty: Networks,
    ):
        self.modules, self.objective, self.recipe, self.accelerator = modules, objective, recipe, accelerator
        self.accumulate, self.empty = accumulate, empty
        self.parameters = trained_parameters(modules)
        self.trained = list(self.parameters.values())
        self.optimizer: Any = torch.optim.AdamW(
            self.trained, recipe.learning_rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay
        )
        self.schedule = get_scheduler(
            recipe.schedule, self.optimizer, num_warmup_steps=recipe.warmup, num_training_steps=recipe.steps,
            num_cycles=recipe.cycles, power=recipe.power,
        )  # fmt: skip
        self.ema = EMAModel(self.trained if recipe.ema else [], decay=recipe.ema)
        self.rate = 0.0  # learning rate of the last step

    def begin(self, folder: Path, keep: int) -> int:
        """Restore what `folder` holds and set up what several processes share; the step to begin with."""
        accelerator = self.accelerator
        self.state = State(
            folder, self.recipe, self.parameters, self.optimizer, self.schedule, self.ema, accelerator.scaler, keep
        )
        first = self.state.load(accelerator.device)
        self.optimizer = accelerator.prepare_optimizer(self.optimizer)
        if accelerator.num_processes > 1 and not self.empty:
            self.objective = accelerator.prepare_model(self.objective)
        for module in self.modules.values():
            module.train()
        return first

    def descend(self, step: int) -> None:
        """Do a step of the optimizer."""
        accelerator, losses = self.accelerator, self.state.losses
        for number in range(step * self.accumulate, (step + 1) * self.accumulate):
            generator = keyed_generator(self.recipe.seed, number)
            torch.manual_seed(generator.initial_seed() + accelerator.process_index)  # dropout reads the global one
            with accelerator.autocast():
                value, parts = self.objective(number, generator)
            accelerator.backward(value / self.accumulate)
            losses.add({"loss": value, **parts})
        norm = accelerator.clip_grad_norm_(self.trained, self.recipe.clip_norm)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        if accelerator.scaler is None or norm.isfinite():  # fp16 leaves out steps whose gradients are too large
            losses.add({"gradient_norm": norm})
        self.rate = float(self.schedule.get_last_lr()[0])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        self.ema.step(self.trained)

    def validate(self, done: int, validation: Validation, log: RunLog) -> bool:
        """Log the losses on held-out clips; whether they are the least so far."""
        values: dict[str, float] = {}
        with self._averaged() as averaged:
            if averaged is not None:
                with torch.no_grad(), self.accelerator.autocast():
                    values = validation.measure(averaged)
                log.note(done, {name: round(value, 6) for name, value in values.items()})
        value = _most(values.get("validation", -float("inf")), self.accelerator)
        is_best = value < self.state.best
        self.state.best = min(value, self.state.best)
        return is_best

    def write(self, done: int, log: RunLog, *, whole: bool, asked: bool) -> None:
        """Log the means since the last line, at the end of its interval or where the run was asked to stop."""
        if whole or asked:
            means = self.state.losses.means(done, self.accelerator)
            log.write(done, means, learning_rate=self.rate, peak_bytes=peak_bytes())
        if whole:
            self.state.losses.clear()

    def show(self, done: int, show: Show, log: RunLog) -> None:
        """Draw samples."""
        with self._averaged() as averaged:
            if averaged is not None:
                log.picture(done, show.draw(done, averaged))

    @contextmanager
    def _averaged(self) -> Iterator[Networks | None]:
        """On the main process the networks with averaged weights, in evaluation mode; then as before."""
        main = self.accelerator.is_main_process
        if not main and not self.empty:  # all gather a divided network, whoever needs it
            yield None
            return
        if not self.empty:
            self.ema.store(self.trained)
        try:
            averaged = _whole(self.ema, self.trained, self.modules, self.empty)
            yield averaged if main else None
        finally:
            if not self.empty:
                self.ema.restore(self.trained)
            for module in self.modules.values():
                module.train()


def trained_parameters(modules: Networks) -> dict[str, nn.Parameter]:
    """The parameters that require a gradient, by name."""
    return {f"{name}.{key}": p for name, m in modules.items() for key, p in m.named_parameters() if p.requires_grad}


def _accelerator(precision: str, *, shard: bool) -> Accelerator:
    """How the processes share the work.

    Raises:
        ValueError: they do it otherwise than by DDP, or `shard` meets one process or fp16.
    """
    count = processes().num_processes
    if shard and (count == 1 or precision == "fp16"):
        raise ValueError(
            f"shard divides the networks among several processes, in bf16 or float32: got {count} process(es) and "
            f"precision {precision}; start several by --processes, or leave it out"
        )
    AcceleratorState._reset_state()  # a run before in this process may have had another precision
    accelerator = Accelerator(mixed_precision=precision)
    if accelerator.distributed_type not in _KINDS:
        raise ValueError(
            f"several processes train by DDP, accelerate is set to {accelerator.distributed_type.value}: launch with "
            "--multi_gpu, or without --config_file, and divide the networks by --shard"
        )
    return accelerator


def processes() -> PartialState:
    """Rank of this process and number of processes; the first call joins them.

    Raises:
        ValueError: it was launched as one of several and cannot reach the others, so that each would train for itself.
    """
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != launched:
        raise ValueError(
            f"{launched} processes were launched, this one finds {state.num_processes}: give each a GPU, or set "
            "ACCELERATE_USE_CPU=true"
        )
    return state


def keyed_generator(*key: int | str) -> torch.Generator:
    """A CPU generator that depends on the key alone."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def _whole(ema: EMAModel, trained: list[nn.Parameter], modules: Networks, empty: Networks) -> Networks:
    """The networks with averaged weights, if such are kept, and in evaluation mode; of divided ones, whole copies."""
    if empty:
        averages = {id(p): average for p, average in zip(trained, ema.shadow_params, strict=False)}
        weights = {
            name: {key: averages.get(id(p), p.detach()) for key, p in module.named_parameters()}
            for name, module in modules.items()
        }
        return {name: whole(network, weights[name]) for name, network in empty.items()}
    ema.copy_to(trained)
    for module in modules.values():
        module.eval()
    return modules


@contextmanager
def _stop_requests() -> Iterator[Callable[[], int]]:
    """Note SIGTERM or Ctrl-C instead of ending, and say which; a second one ends. Only the main thread can."""
    asked: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        before |= {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: asked[0] if asked else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _most(number: float | int, accelerator: Accelerator) -> float | int:
    """The largest of all processes' numbers."""
    if accelerator.num_processes == 1:
        return number
    return float(accelerator.gather(torch.tensor([float(number)], device=accelerator.device)).max())
