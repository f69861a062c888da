"""The noise levels of one denoising run, and the DDIM step between two of them.

A level is an index into the schedule: 0 is the noisiest. Every level carries its pair of noise amounts, before and
after its step, so a step needs no state: it may be taken in any order, by any frame, as often as one likes.

A noisy state is signal * clean + spread * noise. Diffusion models keep signal^2 + spread^2 = 1; flow matching has
signal = 1 - sigma, spread = sigma. Up to the state's scale, hypot(signal, spread), the two are one: what matters to a
step is alpha, the signal's share of the variance. On a flow the DDIM step at eta 0 is Euler's.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

PredictionType = Literal["epsilon", "v_prediction", "sample", "flow_prediction"]  # the last: noise - clean

DIFFUSERS_DEFAULTS: dict[str, Any] = {  # of its DDIMScheduler: a key that a config leaves out means these
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "clip_sample": True,
    "thresholding": False,
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "rescale_betas_zero_snr": False,
}


class Coefficients(NamedTuple):
    """The latents after a step are latent * x + prediction * network's answer + noise * fresh noise."""

    latent: float
    prediction: float
    noise: float


class Mix(NamedTuple):
    """A noisy state is signal * clean + spread * standard normal noise."""

    signal: int | float
    spread: int | float


@runtime_checkable
class Solver(Protocol):
    """Takes the denoising steps of one clip."""

    def step(
        self,
        x: Float[Tensor, "B C T H W"],
        prediction: Float[Tensor, "B C T H W"],
        level: int | Int[Tensor, " T"],
        eta: float = 0.0,
        noise: Float[Tensor, "B C T H W"] | None = None,
    ) -> Float[Tensor, "B C T H W"]:
        """The latents after the step from `level`, given the network's answer."""
        ...


@dataclass(frozen=True)
class Schedule:
    """Pairs of noise levels, noisiest first; x = scale * (sqrt(alpha) clean + sqrt(1 - alpha) noise) at each.

    Raises:
        ValueError: the tuples differ in length or are empty, an alpha is outside [0, 1], a scale is not above 0, the
            prediction type is unknown, or a level cannot be stepped from (pure noise under `epsilon`, a clean image
            under `sample`: both divide by zero).
    """

    timesteps: tuple[int | float, ...]  # the network's input for each level
    alphas: tuple[float, ...]  # share of the signal's variance before the step (abar), [0, 1]
    alphas_prev: tuple[float, ...]  # and after it
    prediction_type: PredictionType = "epsilon"  # what the network answers
    scales: tuple[float, ...] = ()  # of the state before the step; (): 1 throughout, variance is preserved
    scales_prev: tuple[float, ...] = ()  # and after it

    def __post_init__(self) -> None:
        for name in ("scales", "scales_prev"):
            object.__setattr__(self, name, getattr(self, name) or (1.0,) * len(self.timesteps))
        if not len(self.timesteps) == len(self.scales) == len(self.scales_prev):
            raise ValueError(
                f"a schedule needs a scale for each of its {len(self.timesteps)} timesteps, before and after its step: "
                f"got {len(self.scales)} and {len(self.scales_prev)}"
            )
        if not all(0 < scale < math.inf for scale in (*self.scales, *self.scales_prev)):
            raise ValueError("the scale of a state is above 0 and finite: check signal and spread of the levels")
        if not len(self.timesteps) == len(self.alphas) == len(self.alphas_prev) > 0:
            raise ValueError(
                "a schedule needs as many timesteps as alphas and alphas_prev, and at least one: got "
                f"{len(self.timesteps)}, {len(self.alphas)} and {len(self.alphas_prev)}"
            )
        if not all(0 <= alpha <= 1 for alpha in (*self.alphas, *self.alphas_prev)):
            raise ValueError("alphas are shares of variance, in [0, 1]: check the schedule's betas")
        if self.prediction_type not in get_args(PredictionType):
            raise ValueError(
                f"prediction_type is one of {', '.join(get_args(PredictionType))}: got {self.prediction_type!r}"
            )
        if self.prediction_type == "epsilon" and min(self.alphas) == 0:
            raise ValueError(
                "the clean image cannot be separated from the noise at a level with no signal: a schedule with "
                "rescale_betas_zero_snr needs prediction_type 'v_prediction' or 'sample', or timestep_spacing 'leading'"
            )
        if self.prediction_type == "sample" and max(self.alphas) == 1:
            raise ValueError("the noise cannot be separated from a clean image: leave out the level whose alpha is 1")

    @property
    def steps(self) -> int:
        """Number of denoising steps."""
        return len(self.timesteps)

    def fresh(self) -> Solver:
        """A solver for one clip: this one, since a DDIM step needs no memory of the steps before."""
        return self

    @classmethod
    def of_mixes(
        cls,
        timesteps: Sequence[int | float],
        mixes: Sequence[Mix],  # one more than timesteps: each step ends where the next one begins
        prediction_type: PredictionType,
    ) -> "Schedule":
        """The levels of any pairs of signal and spread."""
        alphas = tuple(mix.signal**2 / (mix.signal**2 + mix.spread**2) for mix in mixes)
        scales = tuple(math.hypot(mix.signal, mix.spread) for mix in mixes)
        return cls(tuple(timesteps), alphas[:-1], alphas[1:], prediction_type, scales[:-1], scales[1:])

    @classmethod
    def flow(cls, timesteps: Sequence[int | float], sigmas: Sequence[int | float]) -> "Schedule":
        """The levels of a flow on straight paths (arXiv 2209.03003): x = (1 - sigma) clean + sigma noise.

        `sigmas` has the level at which the last step ends too, so one more than `timesteps`.
        """
        return cls.of_mixes(timesteps, [Mix(1 - sigma, sigma) for sigma in sigmas], "flow_prediction")

    @classmethod
    def ddim(cls, config: Mapping[str, Any], steps: int) -> "Schedule":
        """The levels of the spacing that the config names (arXiv 2305.08891, table 2), as of diffusers' DDIMScheduler.

        Each step ends where the next one begins. diffusers subtracts a constant from the timestep instead, which is the
        same for spacing `leading`, and for `trailing` when the steps divide the training steps. Where they do not, its
        `trailing` adds up floats: of the counts up to 1000 at 111 (48, 61, 96) it visits another level, or one more.

        Raises:
            ValueError: clip_sample or thresholding is on (they hold images in range, latents have none), the betas are
                given one by one, a name is unknown, or there are more steps than the training had.
        """
        given = {**DIFFUSERS_DEFAULTS, **config}
        refuse_clipping(given)
        if given["trained_betas"] is not None:
            raise ValueError("betas come from a named beta_schedule, the schedule has trained_betas: build a Schedule")
        alphas = _alphas(given)
        timesteps = _timesteps(given, steps)
        last = 1.0 if given["set_alpha_to_one"] else alphas[0]
        before = tuple(alphas[t] for t in timesteps)
        return cls(timesteps, before, (*before[1:], last), given["prediction_type"])

    def step(
        self,
        x: Float[Tensor, "B C T H W"],
        prediction: Float[Tensor, "B C T H W"],
        level: int | Int[Tensor, " T"],
        eta: float = 0.0,
        noise: Float[Tensor, "B C T H W"] | None = None,
    ) -> Float[Tensor, "B C T H W"]:
        """One DDIM step of the whole tensor (arXiv 2010.02502, equations 12 and 16), without a host sync.

        `level`: of all frames, or one per frame as a tensor on the CPU. `eta`: 0 is DDIM, 1 is DDPM; above 0 it needs
        `noise`, standard normal. Computed in float32 at least, returned in the dtype of `x`, which stays as it is.

        Raises:
            ValueError: a level outside the schedule or on another device, eta outside [0, 1], or noise is missing.
        """
        dtype = torch.promote_types(x.dtype, torch.float32)
        if isinstance(level, Tensor):
            if level.device.type != "cpu":
                raise ValueError(f"levels are read by the host, these are on {level.device}: keep them on the CPU")
            of_frames = [self.coefficients(index, eta) for index in level.tolist()]
            table = torch.tensor(of_frames, dtype=dtype).to(x.device, non_blocking=True)
            of_x, of_prediction, of_noise = table.T.reshape(3, -1, 1, 1)
        else:
            of_x, of_prediction, of_noise = self.coefficients(level, eta)
        after = of_x * x.to(dtype) + of_prediction * prediction.to(dtype)
        if eta > 0:
            if noise is None:
                raise ValueError(f"a step with eta above 0 adds noise, got eta {eta} and no noise, pass some")
            after = after + of_noise * noise.to(x.device, dtype)
        return after.to(x.dtype)

    def coefficients(self, level: int, eta: float = 0.0) -> Coefficients:
        """The three numbers of the step from `level`."""
        if not 0 <= level < self.steps:
            raise ValueError(f"levels of this schedule are 0 to {self.steps - 1}: got {level}")
        if not 0 <= eta <= 1:
            raise ValueError(f"eta is between 0 (DDIM) and 1 (DDPM): got {eta}")
        alpha, alpha_prev = self.alphas[level], self.alphas_prev[level]
        clean_of_x, clean_of_prediction = self.clean_coefficients(level)
        noise_of_x, noise_of_prediction = self.noise_coefficients(level)
        fresh = 0.0
        if eta > 0 and alpha < 1:
            fresh = eta * math.sqrt(max(0.0, (1 - alpha_prev) / (1 - alpha) * (1 - alpha / alpha_prev)))
        old = math.sqrt(max(0.0, 1 - alpha_prev - fresh**2))
        scale = self.scales_prev[level]
        return Coefficients(
            latent=scale * (math.sqrt(alpha_prev) * clean_of_x + old * noise_of_x),
            prediction=scale * (math.sqrt(alpha_prev) * clean_of_prediction + old * noise_of_prediction),
            noise=scale * fresh,
        )

    def mix(self, level: int) -> Mix:
        """Signal and spread of a state that enters the step from `level`."""
        alpha, scale = self.alphas[level], self.scales[level]
        return Mix(scale * math.sqrt(alpha), scale * math.sqrt(1 - alpha))

    def clean_coefficients(self, level: int) -> tuple[float, float]:
        """The clean frames that the network sees at `level` are the first number * x + the second * its answer."""
        signal, noise, scale = math.sqrt(self.alphas[level]), math.sqrt(1 - self.alphas[level]), self.scales[level]
        if self.prediction_type == "epsilon":
            return 1 / (scale * signal), -noise / signal
        if self.prediction_type == "flow_prediction":
            return 1 / (scale * (signal + noise)), -noise / (signal + noise)
        return (0.0, 1.0) if self.prediction_type == "sample" else (signal / scale, -noise)

    def noise_coefficients(self, level: int) -> tuple[float, float]:
        """The noise that the network sees at `level` is the first number * x + the second * its answer."""
        signal, noise, scale = math.sqrt(self.alphas[level]), math.sqrt(1 - self.alphas[level]), self.scales[level]
        if self.prediction_type == "epsilon":
            return 0.0, 1.0
        if self.prediction_type == "flow_prediction":
            return 1 / (scale * (signal + noise)), signal / (signal + noise)
        return (1 / (scale * noise), -signal / noise) if self.prediction_type == "sample" else (noise / scale, signal)

    def noised(self, clean: Float[Tensor, "*S"], noise: Float[Tensor, "*S"], level: int) -> Float[Tensor, "*S"]:
        """Clean frames brought to `level` with the noise given, in float32 at least."""
        exact, mix = torch.promote_types(clean.dtype, torch.float32), self.mix(level)
        return mix.signal * clean.to(exact) + mix.spread * noise.to(exact)

    def renoised(self, x: Float[Tensor, "*S"], noise: Float[Tensor, "*S"], level: int) -> Float[Tensor, "*S"]:
        """A state before the step from `level` of the one after it: the forward process between both levels."""
        kept = self.alphas[level] / self.alphas_prev[level]
        scale, scale_prev = self.scales[level], self.scales_prev[level]
        exact = torch.promote_types(x.dtype, torch.float32)
        old = math.sqrt(kept) * (scale / scale_prev) * x.to(exact)
        return (old + scale * math.sqrt(1 - kept) * noise.to(exact)).to(x.dtype)


def refuse_clipping(config: Mapping[str, Any]) -> None:
    """Raise ValueError if a scheduler's configuration holds clean frames in the range of pictures."""
    for key in ("clip_sample", "thresholding"):
        if config.get(key):
            raise ValueError(
                f"latents have no range to be clipped to, the schedule has {key}={config[key]!r}: set {key}=False"
            )


def _alphas(config: Mapping[str, Any]) -> tuple[float, ...]:
    """abar of every training timestep; in float32, as the networks were trained."""
    count, start, end, name = (
        config[key] for key in ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule")
    )
    if name == "linear":
        betas = torch.linspace(start, end, count, dtype=torch.float32)
    elif name == "scaled_linear":
        betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float32) ** 2
    elif name == "squaredcos_cap_v2":  # arXiv 2102.09672, equation 17
        curve = [math.cos((index / count + 0.008) / 1.008 * math.pi / 2) ** 2 for index in range(count + 1)]
        ratios = zip(curve[1:], curve[:-1], strict=True)
        betas = torch.tensor([min(1 - after / before, 0.999) for after, before in ratios], dtype=torch.float32)
    else:
        raise ValueError(f"beta_schedule is one of linear, scaled_linear, squaredcos_cap_v2: got {name!r}")
    alphas = torch.cumprod(1 - betas, dim=0)
    if config["rescale_betas_zero_snr"]:  # arXiv 2305.08891, algorithm 1
        roots = alphas.sqrt()
        alphas = ((roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))) ** 2
    return tuple(alphas.tolist())


def _timesteps(config: Mapping[str, Any], steps: int) -> tuple[int, ...]:
    """The timesteps visited, noisiest first (arXiv 2305.08891, table 2)."""
    count, offset, spacing = (config[key] for key in ("num_train_timesteps", "steps_offset", "timestep_spacing"))
    if not 1 <= steps <= count:
        raise ValueError(f"steps are between 1 and the {count} of the training: got {steps}")
    if spacing == "leading":
        timesteps = [index * (count // steps) + offset for index in range(steps)][::-1]
    elif spacing == "trailing":
        timesteps = [round(count - index * count / steps) - 1 for index in range(steps)]
    elif spacing == "linspace":
        timesteps = [round(index * ((count - 1) / max(1, steps - 1))) for index in range(steps)][::-1]
    else:
        raise ValueError(f"timestep_spacing is one of leading, trailing, linspace: got {spacing!r}")
    if timesteps[0] >= count:
        raise ValueError(
            f"timesteps stay below the {count} of the training: {steps} steps with steps_offset {offset} begin at "
            f"{timesteps[0]}: take at most {count // 2} steps"
        )
    return tuple(timesteps)
