"""One video on several devices, by diffusers' context parallelism: each rank computes a part of every call's tokens.

All ranks load the model and make every batch, so that they call the network together; rank 0 alone does the cell. It
decides by its clock how often it warms up, so it tells the others of every model that it loads and batch that it makes.
"""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from unittest import mock

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from bench.harness.ranks import on_ranks
from bench.results.records import InvalidError, Value
from bench.videos.knobs.settings import devices_of, tokens_of

if TYPE_CHECKING:
    from baselines.model_contract import Model

T = TypeVar("T")


class Maker(Protocol):
    """What makes batches: `bench.videos.generator.Generator`."""

    def make(self, prompts: list[str], first: int, steps: int) -> object:
        """A batch."""


def on_devices(values: Mapping[str, Value], lead: Callable[[], T], load: Callable[[Mapping[str, Value]], Maker]) -> T:
    """What `lead` returns on rank 0, on as many devices as the values ask for; `load` is what all of them make with.

    A cell that names `gpus` and runs on a CPU has one thread for each device, also where that is one.

    Raises:
        InvalidError, MemoryError, RankError: as `bench.harness.ranks.on_ranks`.
    """
    devices, on_gpu = devices_of(values), str(values["device"]) != "cpu"
    if devices > 1:
        return on_ranks(devices, lead, partial(follow, load), on_gpu=on_gpu)
    if "gpus" in values and not on_gpu:
        torch.set_num_threads(1)
    return lead()


def follow(load: Callable[[Mapping[str, Value]], Maker]) -> None:
    """Do what rank 0 says, until it ends this process."""
    makers: list[Maker] = []
    while True:
        told: list[Any] = [None]
        dist.broadcast_object_list(told, src=0, device=torch.device("cpu"))
        number, given = told[0]
        if number == len(makers):
            makers.append(load(given))
        else:
            makers[number].make(*given)


class Ensemble:
    """The ranks that have loaded a model: on rank 0 it tells the others what they do next.

    Args:
        values: with which rank 0 loads the model, and so do the others.
    """

    _loaded = 0  # models of this process

    def __init__(self, values: Mapping[str, Value]) -> None:
        self.number = Ensemble._loaded
        Ensemble._loaded += 1
        self._tell(dict(values))

    def make(self, prompts: list[str], first: int, steps: int) -> None:
        """Have the others make this batch too."""
        self._tell((prompts, first, steps))

    def _tell(self, given: object) -> None:
        if dist.get_rank() == 0:
            dist.broadcast_object_list([(self.number, given)], src=0, device=torch.device("cpu"))

    @staticmethod
    def check_equal(latents: Float[Tensor, "B C T H W"]) -> None:
        """Refuse latents that are not the same, to the bit, on all ranks.

        Raises:
            InvalidError: names the ranks that differ from rank 0.
        """
        digests = [""] * dist.get_world_size()
        dist.all_gather_object(digests, hashlib.sha256(latents.float().cpu().numpy().tobytes()).hexdigest())
        if others := [str(rank) for rank, digest in enumerate(digests) if digest != digests[0]]:
            raise InvalidError(f"all ranks make the same latents: rank {', '.join(others)} made others than rank 0")


def share(network: Any, model: "Model", values: Mapping[str, Value]) -> None:
    """Let the ranks share the calls of a network of the model; diffusers pads nothing where the parts are equal."""
    from diffusers import ContextParallelConfig  # noqa: PLC0415  (loads diffusers)
    from diffusers.models.modeling_outputs import Transformer2DModelOutput  # noqa: PLC0415

    devices, kind = devices_of(values), "ring" if str(values["gpus"]).startswith("ring") else "ulysses"
    even = all(each % devices == 0 for each in (*tokens_of(values, model), network.config.num_attention_heads))
    with _cpu_counts_as_device():
        network.enable_parallelism(
            config=ContextParallelConfig(**{f"{kind}_degree": devices, f"{kind}_anything": not even})
        )
    shared = network.forward

    def forward(*args: Any, **kwargs: Any) -> Transformer2DModelOutput:
        """diffusers' hooks take a tuple alone as the answer."""
        return Transformer2DModelOutput(sample=shared(*args, **kwargs, return_dict=False)[0])

    forward.__signature__ = inspect.signature(shared)  # type: ignore[attr-defined]
    network.forward = forward


def _cpu_counts_as_device() -> AbstractContextManager[object]:
    """diffusers takes its rank modulo the number of accelerators, of which a machine without one has 0."""
    if torch.accelerator.is_available():
        return nullcontext()
    return mock.patch.object(torch.accelerator, "device_count", return_value=1)
