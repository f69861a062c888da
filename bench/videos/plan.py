"""What a cell's values ask of its method: the request, the steps and the plan, before anything runs."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import torch

from baselines.latent_frames import FrameRule
from bench.methods import METHODS, options_of, with_noise
from bench.results.records import Value
from bench.videos.equal_cost import steps_at_equal_fe
from vidrd.sampler_contract import Plan, Request

if TYPE_CHECKING:
    from baselines.model_contract import Model

GIVEN = ("real", "still")  # rows that no method makes: real video, and real video whose first frame is held


def in_latent_frames(values: Mapping[str, Value], rule: FrameRule) -> dict[str, Value]:
    """The values with lengths, clips and overlaps counted in latent frames.

    Raises:
        ValueError: the model makes no such length, clip or overlap; names the nearest ones.
    """
    frames, clip = (rule.latents(int(values[name])) for name in ("frames", "clip"))
    return {**values, "frames": frames, "clip": clip, "overlap": rule.overlap(int(values["overlap"]))}


def rule_of(values: Mapping[str, Value]) -> FrameRule:
    """How the cell's model counts frames; pocket video has a latent frame for each."""
    return model_of(values).rule if "model" in values else FrameRule(1)


def model_of(values: Mapping[str, Value]) -> "Model":
    """The cell's model without its weights.

    Raises:
        ValueError: it is not here, or of no known family.
    """
    from baselines.models.families import outline  # noqa: PLC0415  (loads diffusers, which plans of pocket video need not)

    return outline(str(values["model"]), str(values["revision"]) or None)


def request_of(values: Mapping[str, Value]) -> Request:
    """What the cell asks for, of one video of one latent."""
    values = in_latent_frames(values, rule_of(values))
    first = int(values.get("seed", 0)) * 10**6  # of the cell's videos; refused here where it is no seed
    given = int(values.get("given", 0))
    past = torch.zeros(1, 1, given, 1, 1) if given else None
    return Request(frames=int(values["frames"]), clip=int(values["clip"]), shape=(1, 1, 1), seeds=(first,), past=past)


def steps_of(values: Mapping[str, Value]) -> int:
    """Steps of the cell, as far as they can be known before it runs (at equal seconds: those it is allowed to match).

    Raises:
        ValueError: one step of the method costs more than is allowed.
    """
    steps = int(values["steps"])
    if values["equal"] != "fe":
        return steps
    method = with_noise(METHODS[str(values["method"])], str(values["noise"]))
    options = options_of(in_latent_frames(values, rule_of(values)))
    return steps_at_equal_fe(method.plan, request_of(values), options, steps)


def plan_of(values: Mapping[str, Value]) -> Plan:
    """What the cell's method will do for one video, in latent frames.

    Raises:
        ValueError: the method cannot make such a video.
    """
    return _plan(tuple(values.items()))


@cache
def _plan(items: tuple[tuple[str, Value], ...]) -> Plan:
    """Once for each cell: equal fe tries many numbers of steps, and a video of minutes has long plans."""
    values = dict(items)
    method = with_noise(METHODS[str(values["method"])], str(values["noise"]))
    options = options_of(in_latent_frames(values, rule_of(values)))
    return method.plan(request_of(values), steps_of(values), options)
