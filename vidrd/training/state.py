"""Everything that a resumed run needs, in one file; earlier ones and the best one are kept next to it if asked."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from vidrd.entry import one_line
from vidrd.files import link_or_copy, replacing
from vidrd.training.hyperparameters import Recipe
from vidrd.training.sharding import divided_as, gathered


@dataclass
class Losses:
    """Sums of what is logged since the last line of the log."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, parts: Mapping[str, Tensor]) -> None:
        """Count some values."""
        for key, part in parts.items():
            self.sums[key] = self.sums.get(key, torch.zeros((), device=part.device)) + part.detach().float()
            self.counts[key] = self.counts.get(key, 0) + 1

    def reduced(self, accelerator: Accelerator) -> dict[str, Tensor]:
        """The sums, as means over the processes."""
        return {key: accelerator.reduce(value.clone(), "mean") for key, value in self.sums.items()}

    def means(self, done: int, accelerator: Accelerator) -> dict[str, float]:
        """The means over the calls.

        Raises:
            ValueError: one is not finite.
        """
        means = {key: round(float(value) / self.counts[key], 6) for key, value in self.reduced(accelerator).items()}
        if not all(abs(mean) < float("inf") for mean in means.values()):
            raise ValueError(f"the loss must stay finite; after step {done - 1} it is {means}: lower learning_rate")
        return means

    def clear(self) -> None:
        """Begin anew."""
        self.sums, self.counts = {}, {}


@dataclass
class State:
    """The state of a run, `state.pt`; `best.pt` is that of the least validation loss, `states/` has the last ones."""

    folder: Path
    recipe: Recipe
    parameters: Mapping[str, Tensor]
    optimizer: Any
    schedule: Any
    ema: Any
    scaler: Any  # of fp16's losses; None otherwise
    keep: int = 1  # states
    best: float = float("inf")  # validation loss so far
    losses: Losses = field(default_factory=Losses)

    @property
    def path(self) -> Path:
        """The state to resume from."""
        return self.folder / "state.pt"

    def save(self, step: int, accelerator: Accelerator, *, is_best: bool) -> None:
        """Write the state atomically; all processes gather it, the main one stores it."""
        state = gathered(
            {
                "recipe": json.dumps(asdict(self.recipe)),
                "step": step,
                "best": self.best,
                "sums": {key: value.cpu() for key, value in self.losses.reduced(accelerator).items()},
                "counts": self.losses.counts,
                "parameters": {key: p.detach() for key, p in self.parameters.items()},
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "ema": self.ema.state_dict(),
                "scaler": self.scaler.state_dict() if self.scaler else None,
            }
        )
        if not accelerator.is_main_process:
            return
        with replacing(self.path, sole_writer=True) as part:
            torch.save(state, part)
        if is_best:
            link_or_copy(self.path, self.folder / "best.pt")
        if self.keep > 1:
            (self.folder / "states").mkdir(exist_ok=True)
            link_or_copy(self.path, self.folder / "states" / f"step-{step:07d}.pt")
            for old in sorted((self.folder / "states").glob("step-*.pt"))[: -self.keep]:
                old.unlink()

    def load(self, device: torch.device) -> int:
        """Restore an earlier run's state, if there is one of the same recipe or of one with fewer steps.

        Returns:
            The step to continue with.
        """
        if not self.path.exists():
            return 0
        state = read_state_file(self.path)
        there, now = json.loads(state["recipe"]), asdict(self.recipe)
        free = {"save_every": 0, "steps": 0}  # how often it saves changes nothing of what it learns
        if {**there, **free} != {**now, **free} or there["steps"] > now["steps"]:
            raise ValueError(
                f"{self.folder} holds a run of another recipe ({state['recipe']}): name another folder, or delete "
                "it to restart"
            )
        if state["parameters"].keys() != self.parameters.keys():
            raise ValueError(f"{self.folder} holds a run that trained other layers: name another folder, or delete it")
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
        self.best = float(state["best"])
        self.losses = Losses({key: value.to(device) for key, value in state["sums"].items()}, dict(state["counts"]))
        return int(state["step"])


def read_state_file(path: Path) -> dict[str, Any]:
    """The content of a file that `State.save` wrote.

    Raises:
        ValueError: it is something else.
    """
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        json.loads(state["recipe"])
        if missing := {"step", "best", "counts", "parameters", "ema"} - state.keys():
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    except Exception as error:  # whatever a reader of broken files may raise
        why = one_line(str(error))[:200] or type(error).__name__
        raise ValueError(f"{path} cannot be read, delete it to start anew: {why}") from error
    return state


def load_averages(path: Path, parameters: Mapping[str, Tensor]) -> int:
    """Give parameters the averages of a stored state, or its weights if it has none; returns the step.

    Raises:
        ValueError: it is of other parameters.
    """
    state = read_state_file(path)
    if state["parameters"].keys() != parameters.keys():
        raise ValueError(f"{path} holds other layers than the run trains: name a state of this run")
    weights = state["ema"]["shadow_params"] or state["parameters"].values()
    with torch.no_grad():
        for parameter, value in zip(parameters.values(), weights, strict=True):
            parameter.copy_(value)
    return int(state["step"])
