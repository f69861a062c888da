"""No option of a method is accepted and ignored: beside any other, it changes the video or is refused."""

from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from functools import cache
from typing import get_args, get_type_hints

import pytest
import torch

import baselines.replace
import vidrd.sampling
from bench.methods import METHODS
from vidrd.sampler_contract import Request
from vidrd.schedule import Schedule

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # tests/test_samplers.py checks them

CLIP, OVERLAP = 8, 2
CONFIG = {"beta_schedule": "scaled_linear", "clip_sample": False, "steps_offset": 1}
SCHEDULES = {steps: Schedule.ddim(CONFIG, steps) for steps in (8, 16)}
# frames, eta and steps: a tail beyond whole strides, none, fresh noise and as many steps as RePaint jumps back over
SETTINGS = ((15, None, 8), (20, None, 8), (20, 0.7, 16))
BASES = {  # in the place of the table's options, which would hide others or take long
    # shorter overlaps, where ramps are no pyramids
    **{name: replace(each.options(0), stride=6) for name, each in METHODS.items() if each.cuts_attention},
    "replace-resampled": baselines.replace.Options(OVERLAP, resample=2),  # the same in less time
}
RELEASED = vidrd.sampling.Options(overlap=CLIP, beta=0.0)  # where the released slice renews all


class Toy:
    """Frames couple, and those that lie in one window of attention a little more; has a gradient, and positions."""

    clip, longest, branches, over_time, way = CLIP, None, 1, None, ""

    @contextmanager
    def attend_in(self, over_time):
        self.over_time = over_time
        yield
        self.over_time = None

    @contextmanager
    def extend(self, way, frames):
        self.way = way
        yield
        self.way = ""

    def __call__(self, latents, timesteps):
        times = timesteps.double() / 1000
        times = times if times.ndim == 0 else times.reshape(-1, 1, times.shape[-1], 1, 1)
        place = torch.linspace(0.1, 0.4, latents.shape[2], dtype=latents.dtype).reshape(-1, 1, 1)
        answer = (0.6 + 0.3 * times + 0.01 * len(self.way)) * torch.tanh(latents) + place * latents.mean(
            dim=2, keepdim=True
        )
        if self.over_time is None:
            return answer
        B, H, W = len(latents), *latents.shape[3:]
        tokens = self.over_time(attend, latents.permute(0, 2, 3, 4, 1).flatten(0, 1).flatten(1, 2))
        return answer + tokens.unflatten(1, (H, W)).unflatten(0, (B, -1)).permute(0, 4, 1, 2, 3)


def attend(tokens, frames):
    """Every frame sees its window's mean and its place in it."""
    clips = tokens.unflatten(0, (-1, frames))
    place = torch.linspace(0.5, 1.5, frames, dtype=tokens.dtype).reshape(-1, 1, 1)
    return torch.sin(clips * place + clips.mean(dim=1, keepdim=True)).flatten(0, 1)


def values_of(kind, name):
    """Other values of an option: every word that it takes, or numbers, of which one at least must matter."""
    hint = get_type_hints(kind)[name]
    parts = {hint, *get_args(hint)}
    if float in parts or int in parts:
        return (0.3, 0.8, 1.0) if float in parts else (1, 2, 3)
    return [word for part in parts for word in get_args(part) if isinstance(word, str)] or (True, False)


def bases_of(name):
    """The method's options, and these with one word changed."""
    base = BASES.get(name) or METHODS[name].options(OVERLAP)
    found = [base]
    for field in fields(base):
        for value in values_of(type(base), field.name):
            with suppress(ValueError):
                if isinstance(value, str | bool):
                    found.append(replace(base, **{field.name: value}))
    return list(dict.fromkeys(found))


@cache
def video(name, options, frames, eta, steps):
    asked = Request(frames, CLIP, (1, 2, 2), (3, 8), eta)
    try:
        return METHODS[name].sample(Toy(), SCHEDULES[steps], asked, options, dtype=torch.float64).latents
    except ValueError:
        return None


def matters(name, base, changed):
    """Whether some setting tells the two apart."""
    for setting in SETTINGS:
        one, other = video(name, base, *setting), video(name, changed, *setting)
        if (one is None) != (other is None):
            return True
        if one is not None and (one.shape != other.shape or float((one - other).abs().max()) > 1e-9):
            return True
    return False


every_base = pytest.mark.parametrize(("name", "base"), [(name, base) for name in METHODS for base in bases_of(name)])


def said_anyway(name, base, field, value):
    """Whether the value says what holds without it."""
    if value == "ramp" and name == "freenoise" and base.compat != "paper":
        return True  # windows in whole strides, whose overlaps are short: a pyramid there
    old = getattr(base, field)
    if field == "weights" and old is None:
        flat = base.compat == "genl" or getattr(base, "attention", "") == "principal"
        old = "flat" if flat else "pyramid"
    if field == "fuse":
        old = base.fused
    return value == old


@every_base
def test_every_option_is_used_or_refused(name, base):
    for field in fields(base):
        results = {}
        for value in values_of(type(base), field.name):
            if said_anyway(name, base, field.name, value):
                continue
            hides = isinstance(base, vidrd.sampling.Options) and field.name == "compat"
            start = replace(RELEASED, compat=base.compat) if hides else base
            with suppress(ValueError):
                results[value] = start, replace(start, **{field.name: value})
        words = any(isinstance(value, str | bool) for value in results)
        told = (matters(name, *pair) for pair in results.values())
        assert not results or (all(told) if words else any(told)), (field.name, list(results))


@every_base
def test_every_eta_is_used(name, base):
    videos = [video(name, base, 20, eta, 8) for eta in (0.0, 0.5, 1.0)]
    if videos[0] is None:  # lengths that a published code cannot make
        return
    for number, one in enumerate(videos):
        for other in videos[:number]:
            assert float((one - other).abs().max()) > 1e-9
