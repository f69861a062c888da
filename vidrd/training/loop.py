"""One training loop for every stage.

What happens in a step depends on the recipe's seed and the step's number alone (batch, noise, dropout), so a run that
was cut off and resumed is, bit for bit on one machine, the run that was not. Under `accelerate launch` every process
runs it on its part of each batch, with the networks whole (DDP) or divided among them (FSDP).
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
from types import FrameType
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator, DistributedType, PartialState
from accelerate.utils import parse_flag_from_env
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from vidrd.entry import one_line
from vidrd.files import replacing
from vidrd.training.log import RunLog, peak_bytes
from vidrd.training.settings import Stopped
from vidrd.training.sharding import divide, divided_as, gathered, whole

StepLoss = Callable[[int, torch.Generator], tuple[Tensor, dict[str, Tensor]]]  # step -> loss, what to log
Networks = Mapping[str, nn.Module]


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
    """A function that draws samples at intervals, with the averaged weights in place."""

    every: int  # steps
    draw: Callable[[int, Networks], None]  # of the number of finished steps, and the networks with averaged weights


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
    tensorboard: bool = False,
    shard: bool = False,
    accumulate: int = 1,  # calls of `loss` for each step, numbered on, whose gradients are averaged
) -> Networks:
    """Train the parameters of `modules` that require a gradient.

    Writes `log.jsonl` (one line every `log_every` steps), TensorBoard events if asked, and `state.pt` into `folder`;
    finds them there to resume. Where several processes run it, the gradients are the mean of theirs, so `loss` should
    be the mean over this process's part of the batch. With `shard` they divide the networks among them as well, which
    `loss` may then only call, and not read the weights of.

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
    parameters = {
        f"{name}.{key}": p for name, m in modules.items() for key, p in m.named_parameters() if p.requires_grad
    }
    trained = list(parameters.values())
    optimizer = torch.optim.AdamW(trained, recipe.learning_rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay)
    schedule = get_cosine_schedule_with_warmup(optimizer, recipe.warmup, recipe.steps)
    ema = EMAModel(trained if recipe.ema else [], decay=recipe.ema)
    state = _State(folder / "state.pt", recipe, parameters, optimizer, schedule, ema, accelerator.scaler)
    first, sums, counted = state.load()
    losses = _Losses({key: value.to(accelerator.device) for key, value in sums.items()}, counted)
    optimizer = accelerator.prepare_optimizer(optimizer)
    if accelerator.num_processes > 1 and not shard:
        objective = accelerator.prepare_model(objective)
    for module in modules.values():
        module.train()

    log = RunLog(folder, recipe.steps, first, writes=accelerator.is_main_process, tensorboard=tensorboard)
    with log, _stop_requests() as stop_requested:
        for step in range(first, recipe.steps):
            for number in range(step * accumulate, (step + 1) * accumulate):
                losses.add(_descend(objective, accelerator, recipe.seed, number, 1 / accumulate))
            accelerator.clip_grad_norm_(trained, recipe.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            ema.step(trained)

            done = step + 1
            stop = _most(stop_requested(), accelerator)
            due = done % log_every == 0 or done == recipe.steps
            if due or stop:
                log.write(done, losses.means(done, accelerator), peak_bytes=peak_bytes())
            if due:
                losses.clear()
            if done % recipe.save_every == 0 or done == recipe.steps or stop:
                state.save(done, losses.reduced(accelerator), losses.counted, writes=accelerator.is_main_process)
            if stop and done < recipe.steps:
                accelerator.wait_for_everyone()
                say = f"stopped after step {done} of {recipe.steps}; the same command goes on from there"
                raise Stopped(say, 128 + stop)
            here = shard or accelerator.is_main_process  # all gather a divided network, whoever draws
            if show and here and (done % show.every == 0 or done == recipe.steps):
                with _averaged(ema, trained, modules, empty) as averaged:
                    if accelerator.is_main_process:
                        show.draw(done, averaged)
    learned = _whole(ema, trained, modules, empty)
    accelerator.wait_for_everyone()
    return learned


def _descend(objective: nn.Module, accelerator: Accelerator, seed: int, number: int, share: float) -> dict[str, Tensor]:
    """Add a share of the gradients of a call of the loss; returns its parts."""
    generator = keyed_generator(seed, number)
    torch.manual_seed(generator.initial_seed() + accelerator.process_index)  # dropout reads the global one
    with accelerator.autocast():
        value, parts = objective(number, generator)
    accelerator.backward(value * share)
    return {"loss": value, **parts}


def _accelerator(precision: str, *, shard: bool) -> Accelerator:
    """How the processes share the work.

    Raises:
        ValueError: they do it otherwise than by DDP, or `shard` meets one process or fp16.
    """
    count = processes().num_processes
    if shard and (count == 1 or precision == "fp16"):
        raise ValueError(
            f"shard divides the networks among several processes, in bf16 or float32: got {count} process(es) and "
            f"precision {precision}; start it by accelerate launch --multi_gpu, or leave it out"
        )
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


@dataclass
class _Losses:
    """Sums of the losses since the last line of the log."""

    sums: dict[str, Tensor]
    counted: int  # calls

    def add(self, parts: Mapping[str, Tensor]) -> None:
        """Count a call."""
        self.counted += 1
        for key, part in parts.items():
            self.sums[key] = self.sums.get(key, torch.zeros((), device=part.device)) + part.detach().float()

    def reduced(self, accelerator: Accelerator) -> dict[str, Tensor]:
        """The sums, as means over the processes."""
        return {key: accelerator.reduce(value.clone(), "mean") for key, value in self.sums.items()}

    def means(self, done: int, accelerator: Accelerator) -> dict[str, float]:
        """The means over the calls.

        Raises:
            ValueError: one is not finite.
        """
        means = {key: round(float(value) / self.counted, 6) for key, value in self.reduced(accelerator).items()}
        if not all(abs(mean) < float("inf") for mean in means.values()):
            raise ValueError(f"the loss must stay finite; after step {done - 1} it is {means}: lower learning_rate")
        return means

    def clear(self) -> None:
        """Begin anew."""
        self.sums, self.counted = {}, 0


class _State(NamedTuple):
    """Everything that a resumed run needs, in one file."""

    path: Path
    recipe: Recipe
    parameters: Mapping[str, Tensor]
    optimizer: Any
    schedule: Any
    ema: Any
    scaler: Any  # of fp16's losses; None otherwise

    def save(self, step: int, sums: Mapping[str, Tensor], counted: int, *, writes: bool) -> None:
        """Write the state atomically; all processes gather it, the one that `writes` stores it.

        `sums` and `counted` are of the losses since the last line of the log.
        """
        state = gathered(
            {
                "recipe": json.dumps(asdict(self.recipe)),
                "step": step,
                "sums": {key: value.cpu() for key, value in sums.items()},
                "counted": counted,
                "parameters": {key: p.detach() for key, p in self.parameters.items()},
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "ema": self.ema.state_dict(),
                "scaler": self.scaler.state_dict() if self.scaler else None,
            }
        )
        if writes:
            with replacing(self.path, sole_writer=True) as part:
                torch.save(state, part)

    def load(self) -> tuple[int, dict[str, Tensor], int]:
        """Restore an earlier run's state, if there is one of the same recipe or of one with fewer steps.

        Returns:
            The step to continue with, and the sums and count that were saved with it.
        """
        if not self.path.exists():
            return 0, {}, 0
        try:
            state = torch.load(self.path, weights_only=True, map_location="cpu")
            there, now = json.loads(state["recipe"]), asdict(self.recipe)
        except Exception as error:  # whatever a reader of broken files may raise
            why = one_line(str(error))[:200] or type(error).__name__
            raise ValueError(f"{self.path} cannot be read, delete it to start anew: {why}") from error
        free = {"save_every": 0, "steps": 0}  # how often it saves changes nothing of what it learns
        if {**there, **free} != {**now, **free} or there["steps"] > now["steps"]:
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
                p.copy_(divided_as(p, state["parameters"][key]))
        trained, moments, averages = [*self.parameters.values()], state["optimizer"]["state"], state["ema"]
        moments.update({number: divided_as(trained[number], parts) for number, parts in moments.items()})
        averages["shadow_params"] = [divided_as(p, a) for p, a in zip(trained, averages["shadow_params"], strict=False)]
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        for group, base, law in zip(
            self.optimizer.param_groups, self.schedule.base_lrs, self.schedule.lr_lambdas, strict=True
        ):
            group["lr"] = base * law(self.schedule.last_epoch)  # another one than was saved if there are more steps now
        self.ema.load_state_dict(state["ema"])
        self.ema.to(device=next(iter(self.parameters.values())).device)
        if self.scaler and state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        return int(state["step"]), dict(state.get("sums", {})), int(state.get("counted", 0))


@contextmanager
def _averaged(ema: EMAModel, trained: list[nn.Parameter], modules: Networks, empty: Networks) -> Iterator[Networks]:
    """The networks with averaged weights and in evaluation mode (whole copies of divided ones); then as before."""
    if not empty:
        ema.store(trained)
    try:
        yield _whole(ema, trained, modules, empty)
    finally:
        if not empty:
            ema.restore(trained)
        for module in modules.values():
            module.train()


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


def _most(number: int, accelerator: Accelerator) -> int:
    """The largest of all processes' numbers."""
    if accelerator.num_processes == 1:
        return number
    return int(accelerator.gather(torch.tensor([number], device=accelerator.device)).max())
