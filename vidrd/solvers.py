"""Schedules of diffusers' schedulers, and solvers that remember earlier steps and so need fewer of them.

A schedule takes its levels from the scheduler (shifts, Karras, exponential and beta sigmas, zero terminal SNR), whose
state is never used. The videos of a solver with a memory are others than DDIM's at any number of steps, so their
numbers are always marked next to exact ones. diffusers computes their steps, a clip remembers.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from jaxtyping import Float, Int
from torch import Tensor

from vidrd.schedule import Schedule, Solver, refuse_clipping

SolverName = Literal["ddim", "dpmsolver++", "unipc"]
COGVIDEOX = (CogVideoXDDIMScheduler, CogVideoXDPMScheduler)  # which ignore their clip_sample
# of a flow's levels, which solvers with a memory take for those of diffusion
SPACINGS = ("invert_sigmas", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
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
    make: Callable[[], Any] = field(kw_only=True, compare=False)  # a diffusers scheduler at the first of these levels

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
            "or a method that denoises a clip, or the whole video, from its first level to its last"
        )


class _Running:
    """A multistep solver in the middle of a clip."""

    def __init__(self, plan: Multistep):
        self._name, self._level, self._scheduler = plan.name, 0, plan.make()

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


def schedule(
    name: str,
    scheduler: Any,  # one of diffusers', or the configuration of a DDIMScheduler
    steps: int,
    **timetable: Any,  # what else its set_timesteps is given: sigmas, mu
) -> Schedule:
    """The levels of `steps` steps of a solver over the noise that a scheduler describes.

    "ddim" steps between the scheduler's own levels, whatever its own solver is. A solver with a memory that is the
    scheduler's own keeps its settings.

    Raises:
        ValueError: no such solver, a configuration that `Schedule.ddim` refuses, a scheduler of another kind, or sigmas
            for a solver that takes none.
    """
    if name not in ("ddim", *MULTISTEP):
        raise ValueError(f"solver is one of ddim, {', '.join(MULTISTEP)}: got {name!r}")
    if name == "dpmsolver++" and "sigmas" in timetable:
        raise ValueError(f"{name} places its own sigmas, and this model's pipeline gives some: use solver 'unipc'")
    if isinstance(scheduler, Mapping):
        exact = Schedule.ddim(scheduler, steps)
        if name == "ddim":
            return exact
        scheduler = DDIMScheduler.from_config(_plain(scheduler))
    if name == "ddim":
        return levels(_at_start(scheduler, steps, timetable))

    def make() -> Any:
        return _at_start(_multistep(name, scheduler), steps, timetable)

    of = levels(make())
    return Multistep(
        of.timesteps, of.alphas, of.alphas_prev, of.prediction_type, of.scales, of.scales_prev, name=name, make=make
    )


def levels(scheduler: Any) -> Schedule:
    """The levels of a diffusers scheduler whose timesteps are set.

    Raises:
        ValueError: it visits a level several times (its order is above 1), does not begin at the noisiest, clips, or is
            of an unknown kind.
    """
    config, timesteps = scheduler.config, scheduler.timesteps.tolist()
    if scheduler.order != 1:
        raise ValueError(
            f"a schedule visits each level once, {type(scheduler).__name__} twice: use a scheduler of order 1"
        )
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler) or config.get("use_flow_sigmas"):
        sigmas = scheduler.sigmas.tolist()
        of = Schedule.flow(timesteps, [1 - sigma for sigma in sigmas] if config.get("invert_sigmas") else sigmas)
    elif not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(
            f"schedules are made of a scheduler with alphas_cumprod or flow sigmas: got {type(scheduler).__name__}"
        )
    elif hasattr(scheduler, "sigmas"):
        refuse_clipping({"thresholding": config.get("thresholding")})  # a clip_sample is left over from another kind
        alphas = [1 / (1 + sigma**2) for sigma in scheduler.sigmas.double().tolist()]
        kind = config.get("prediction_type", "epsilon")
        of = Schedule(tuple(timesteps), tuple(alphas[:-1]), tuple(alphas[1:]), kind)
    else:
        of = _of_alphas(scheduler)
    if any(later <= alpha for alpha, later in pairwise(of.alphas)):
        raise ValueError(
            f"a schedule's noise falls from level to level, that of {type(scheduler).__name__} at {len(timesteps)} does"
            " not: take another number of steps, or make another scheduler of its configuration, such as DDIMScheduler"
        )
    return of


def _of_alphas(scheduler: Any) -> Schedule:
    """The levels of DDIM's kin: a step ends so many timesteps later, where the next begins or nearly so."""
    config, last = scheduler.config, float(getattr(scheduler, "final_alpha_cumprod", 1.0))
    if not isinstance(scheduler, COGVIDEOX):
        refuse_clipping(config)
    timesteps, alphas = scheduler.timesteps.tolist(), scheduler.alphas_cumprod.tolist()
    ends = [*timesteps[1:], -1]
    if isinstance(scheduler, (DDIMScheduler, *COGVIDEOX)):
        ends = [timestep - config["num_train_timesteps"] // scheduler.num_inference_steps for timestep in timesteps]
    after = tuple(alphas[end] if end >= 0 else last for end in ends)
    return Schedule(tuple(timesteps), tuple(alphas[t] for t in timesteps), after, config["prediction_type"])


def _multistep(name: str, scheduler: Any) -> Any:
    """The solver over the noise of another scheduler; the scheduler itself where it is that solver."""
    kind, more = MULTISTEP[name]
    if isinstance(scheduler, kind):
        algorithm = scheduler.config.get("algorithm_type", "")
        if name == "dpmsolver++" and "sde" in algorithm:
            raise ValueError(f"a solver draws no noise of its own: got algorithm_type={algorithm!r}, set {name!r}")
        return scheduler
    given = _plain(scheduler.config) | more
    if isinstance(scheduler, COGVIDEOX):  # whose shift of the noise no other scheduler knows
        alphas = scheduler.alphas_cumprod.double()
        given["trained_betas"] = (1 - alphas / torch.cat([alphas.new_ones(1), alphas[:-1]])).tolist()
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        for key in SPACINGS if name == "unipc" else (*SPACINGS, "shift_terminal"):
            if value := scheduler.config.get(key):
                raise ValueError(f"{name} cannot place a flow's levels as {key}={value!r} does: use solver 'ddim'")
        given |= {
            "use_flow_sigmas": True,
            "prediction_type": "flow_prediction",
            "flow_shift": scheduler.config.get("shift", 1.0),
        }
    return kind.from_config(given)


def _at_start(scheduler: Any, steps: int, timetable: Mapping[str, Any]) -> Any:
    """A scheduler of the same kind before its first step."""
    how = {**timetable} if "sigmas" in timetable else {"num_inference_steps": steps, **timetable}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # diffusers hands tensors to numpy in an outdated way
        scheduler = type(scheduler).from_config(_plain(scheduler.config))
        scheduler.set_timesteps(**how)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    return scheduler


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}
