"""Approximations: solvers that remember earlier steps and so need fewer of them. diffusers computes, a clip remembers.

Their videos are others than DDIM's at any number of steps, so their numbers are always marked next to exact ones.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler
from jaxtyping import Float, Int
from torch import Tensor

from vidrd.schedule import Schedule, Solver

SolverName = Literal["ddim", "dpmsolver++", "unipc"]
MULTISTEP: dict[str, tuple[Any, dict[str, Any]]] = {
    "dpmsolver++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),  # 2211.01095
    "unipc": (UniPCMultistepScheduler, {"solver_type": "bh2", "solver_order": 2}),  # arXiv 2302.04867
}


@dataclass(frozen=True)
class Multistep(Schedule):
    """The levels of a multistep solver. Only `fresh` solvers step, one for each clip: what a step needs of the steps
    before it belongs to one clip.
    """

    name: str = field(kw_only=True)
    config: Mapping[str, Any] = field(kw_only=True)  # of any diffusers scheduler

    def fresh(self) -> Solver:
        """A solver with no past, for the steps of one clip."""
        return _Running(self)

    def step(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        """Refused: this is the plan of a solver, not a solver.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{self.name} remembers the steps of one clip, which this sampler keeps no place for: use solver 'ddim', "
            "or the method vidrd"
        )


class _Running:
    """A multistep solver in the middle of a clip."""

    def __init__(self, plan: Multistep):
        self._name, self._level = plan.name, 0
        self._scheduler = _scheduler(plan.name, plan.config, plan.steps)

    def step(
        self,
        x: Float[Tensor, "B C T H W"],
        prediction: Float[Tensor, "B C T H W"],
        level: int | Int[Tensor, " T"],
        eta: float = 0.0,
        noise: Float[Tensor, "B C T H W"] | None = None,
    ) -> Float[Tensor, "B C T H W"]:
        """The next step of the clip, in float32 at least, in the dtype of `x`.

        Raises:
            ValueError: a level out of turn, or noise is asked for.
        """
        if eta > 0:
            raise ValueError(f"{self._name} is deterministic: eta is {eta}, use eta 0 or solver 'ddim'")
        if level != self._level:
            raise ValueError(f"{self._name} takes the levels of a clip in order: got {level}, next is {self._level}")
        dtype = torch.promote_types(x.dtype, torch.float32)
        timestep = self._scheduler.timesteps[self._level]
        self._level += 1
        return self._scheduler.step(prediction.to(dtype), timestep, x.to(dtype), return_dict=False)[0].to(x.dtype)


def schedule(name: str, config: Mapping[str, Any], steps: int) -> Schedule:
    """The levels of `steps` steps of a solver over the noise that a scheduler's configuration describes.

    Raises:
        ValueError: no such solver, or a configuration that `Schedule.ddim` refuses.
    """
    exact = Schedule.ddim(config, steps)
    if name == "ddim":
        return exact
    if name not in MULTISTEP:
        raise ValueError(f"solver is one of ddim, {', '.join(MULTISTEP)}: got {name!r}")
    scheduler = _scheduler(name, config, steps)
    alphas = [1 / (1 + float(sigma) ** 2) for sigma in scheduler.sigmas]
    timesteps = tuple(int(timestep) for timestep in scheduler.timesteps)
    return Multistep(
        timesteps, tuple(alphas[:-1]), tuple(alphas[1:]), exact.prediction_type, name=name, config=dict(config)
    )


def _scheduler(name: str, config: Mapping[str, Any], steps: int) -> Any:
    kind, more = MULTISTEP[name]
    known = {key: value for key, value in config.items() if not key.startswith("_")}
    scheduler = kind.from_config({**known, **more})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # diffusers hands tensors to numpy in an outdated way
        scheduler.set_timesteps(steps)
    scheduler.set_begin_index(0)
    return scheduler
