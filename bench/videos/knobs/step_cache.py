"""A step cache of diffusers on a model, for samplers whose loop is not diffusers'.

Such a cache goes on from what the network computed for the same frames at the step before. A pipeline's loop denoises
one video from its first step to its last; a sampler here goes clip after clip, or through several windows at each step.
The timestep of a call tells which: higher than the last one, a clip begins and nothing is remembered; equal to it, the
call is for the next window, whose state is its own; so has each part of a call that a family divides.
"""

import re
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from diffusers import hooks
from diffusers.hooks._common import _ATTENTION_CLASSES, _FEEDFORWARD_CLASSES
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench.videos.knobs.losses import CacheReuse
from bench.videos.knobs.settings import ONE_STATE, latent_format, split

if TYPE_CHECKING:
    from baselines.model_contract import Model

MANY = 10**6
LESS = 0.999  # of a whole call's FLOPs: what a call does that reuses something
PREDICTED = (*_ATTENTION_CLASSES, *_FEEDFORWARD_CLASSES)  # layers whose output TaylorSeer predicts
LEADER = "mag_cache_leader_block_hook"  # where diffusers keeps the ratios of a calibration


class StepCache:
    """A step cache on all denoising networks of a model, from now on.

    Args:
        model: whose calls are cached.
        setting: the cache and its number: a threshold (first-block, mag), or every how many steps it computes.
    """

    def __init__(self, model: "Model", setting: str) -> None:
        self.kind, self._number = split(setting)
        self._model, self._call = model, model.call
        self._networks: list[Any] = [getattr(model.pipe, name) for name in model.denoisers]
        self._last = float("-inf")  # timestep of the last call
        self._window = self._part = 0
        self._work: defaultdict[tuple[int, ...], list[int]] | None = None  # FLOPs of calls by their shape
        self._contexts = ExitStack()
        self.calibrated = self.kind != "mag"
        for network in self._networks:
            network.enable_cache(self._config(network))
            network.register_forward_pre_hook(self._enter)
            network.register_forward_hook(lambda *_: self._contexts.close())
        model.call = self  # type: ignore[method-assign]

    def __call__(self, latents: Float[Tensor, "B C T H W"], timestep: Num[Tensor, "*T"], **text: Tensor) -> Any:
        """The model's call, with the state of its clip and window.

        Raises:
            ValueError: frames with levels of their own, or a second call at a step where the cache has one state.
        """
        if timestep.ndim:
            raise ValueError("a step cache needs one level for all frames of a call: use another method, or cache=none")
        now = float(timestep)
        if now > self._last:
            for network in self._networks:
                network._reset_stateful_cache()
        self._window, self._part = (self._window + 1 if now == self._last else 0), 0
        self._last = now
        if self._work is None:
            return self._call(latents, timestep, **text)
        with FlopCounterMode(display=False) as counter:
            answer = self._call(latents, timestep, **text)
        self._work[tuple(latents.shape)].append(counter.get_total_flops())
        return answer

    def _enter(self, network: Any, *_: Any) -> None:
        """Give the network that is about to run the state of its window, and of its part where a call is divided."""
        if self.kind in ONE_STATE and (self._window or self._part):
            raise ValueError(
                f"the {self.kind} cache keeps the state of one call a step, here are several: use cache=first-block"
            )
        self._contexts.enter_context(network.cache_context(f"window {self._window}, part {self._part}"))
        self._part += 1

    def begin(self) -> None:
        """Forget the clip that was being made."""
        self._last = float("-inf")

    def count(self, make: Callable[[], object]) -> CacheReuse:
        """Run `make` once more and count the FLOPs of every call; what was compiled is counted as written."""
        self._work = defaultdict(list)
        try:
            with torch.compiler.set_stance("force_eager"):
                make()
            work = [(max(flops), each) for flops in self._work.values() for each in flops]
        finally:
            self._work = None
        whole = sum(most for most, _ in work)
        fired = sum(each < LESS * most for most, each in work)
        return CacheReuse(len(work), fired, 1 - sum(each for _, each in work) / whole if whole else 0.0)

    def calibrate(self, make: Callable[[], object]) -> None:
        """Let MagCache measure in one run of `make` how the network's residuals shrink, which it needs to know."""
        make()
        for network in self._networks:
            ratios = next((found for part in network.modules() if (found := _ratios(part))), [])
            network.disable_cache()
            if ratios:
                network.enable_cache(
                    hooks.MagCacheConfig(
                        threshold=self._number or 0.06, num_inference_steps=len(ratios), mag_ratios=ratios
                    )
                )
        self.calibrated = True
        self.begin()

    def _config(self, network: nn.Module) -> Any:
        every = int(self._number or 0)
        if self.kind == "first-block":
            return hooks.FirstBlockCacheConfig(threshold=self._number or 0.05)
        if self.kind == "taylorseer":  # by name, since diffusers' own patterns match the layers of no video network
            layers = [re.escape(name) for name, part in network.named_modules() if isinstance(part, PREDICTED)]
            dtype = next(network.parameters()).dtype
            return hooks.TaylorSeerCacheConfig(
                cache_interval=every or 5, taylor_factors_dtype=dtype, cache_identifiers=layers
            )
        if self.kind == "pab":
            return hooks.PyramidAttentionBroadcastConfig(
                spatial_attention_block_skip_range=every or 2,
                cross_attention_block_skip_range=every or 2,
                current_timestep_callback=lambda: self._last,
            )
        if self.kind == "faster":
            return hooks.FasterCacheConfig(
                unconditional_batch_skip_range=every or 5,
                tensor_format=str(latent_format(self._model)),
                is_guidance_distilled=self._model.embedded,
                current_timestep_callback=lambda: self._last,
            )
        # More steps than there are: diffusers forgets what it measured after the last one.
        return hooks.MagCacheConfig(num_inference_steps=MANY, calibrate=True)


def _ratios(part: nn.Module) -> list[float]:
    registry = getattr(part, "_diffusers_hook", None)
    hook = None if registry is None else registry.get_hook(LEADER)
    states = [] if hook is None else hook.state_manager._state_cache.values()
    return next((list(state.calibration_ratios) for state in states), [])
