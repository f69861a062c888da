"""The networks that the suite `speed` times: sizes, weights and inputs. The mathematics is one, only sizes differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bench.hardware.machine import ROOT

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Model:
    """One size of the network and one clip of work for it.

    Args:
        config: of UNet3DConditionModel; what it leaves out has its default, the full size.
        frames: of a clip.
        side: latent cells.
        tokens: of text.
        guidance: weight of the text.
        weights: folder of trained weights, from the root of the project; None: they are drawn.
    """

    config: Mapping[str, Any]
    frames: int
    side: int
    tokens: int
    guidance: float
    weights: str | None = None

    def unet(self, device: str, dtype: torch.dtype = torch.float32) -> Any:
        """The network, ready to answer."""
        if self.weights is None:
            return network(unet_class(), self.config, seed=0, device=device).to(dtype)
        loaded = unet_class().from_pretrained(str(ROOT / self.weights), local_files_only=True)
        return loaded.to(device, dtype).eval()

    @property
    def all_config(self) -> dict[str, Any]:
        """The configuration with nothing left out."""
        if self.weights is not None:
            return dict(unet_class().load_config(str(ROOT / self.weights)))
        return dict(shell(unet_class(), self.config).config)

    def inputs(self, device: str, clips: int = 1) -> "Inputs":
        """Latents, text and empty text of so many clips: drawn on the CPU, clip by clip, so that the first one is the
        same whatever their number.
        """
        config = self.all_config
        latents, texts = [], []
        for clip in range(clips):
            draw = torch.Generator().manual_seed(clip)
            latents.append(torch.randn(config["in_channels"], self.frames, self.side, self.side, generator=draw))
            texts.append(torch.randn(2, self.tokens, config["cross_attention_dim"], generator=draw))
        text = torch.stack(texts).to(device)
        return Inputs(torch.stack(latents).to(device), text[:, 0], text[:, 1], torch.tensor(500, device=device))


@dataclass(frozen=True)
class Inputs:
    """What one denoising step is given."""

    latents: Float[Tensor, "B C T H W"]
    context: Float[Tensor, "B L D"]
    negative: Float[Tensor, "B L D"]
    timestep: Int[Tensor, ""]

    def to(self, dtype: torch.dtype) -> "Inputs":
        """The same in another precision."""
        return Inputs(self.latents.to(dtype), self.context.to(dtype), self.negative.to(dtype), self.timestep)


def unet_class() -> Any:
    """The class of our network; to load it loads all of diffusers, seconds that `bench list` need not pay."""
    from vidrd.models.unet import UNet3DConditionModel  # noqa: PLC0415

    return UNet3DConditionModel


def shell(kind: Any, config: Mapping[str, Any]) -> Any:
    """A network without weights."""
    with torch.device("meta"):
        return kind(**config).eval()


def network(kind: Any, config: Mapping[str, Any], *, seed: int, device: str = "cpu") -> Any:
    """A network with drawn weights of the right scale, float32: every layer keeps the size of what goes through it.

    No layer is left at zero (temporal layers begin there when trained): one that does nothing could be left out unseen.
    Buffers are made anew where they lie, so a network must compute its own when it is built on a device.
    """
    with torch.device(device):
        network = kind(**config).eval()
    draw = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.ndim == 1:
                    centre = 1.0 if name == "weight" else 0.0  # a norm's; all other vectors are biases
                    parameter.normal_(centre, 0.1, generator=draw)
                else:
                    parameter.normal_(0.0, parameter[0].numel() ** -0.5, generator=draw)
    return network


MODELS: dict[str, Model] = {
    "tiny": Model(  # for tests of the harness: its times mean nothing
        {
            "block_out_channels": (8, 16), "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
            "attention_head_dim": (2, 4), "cross_attention_dim": 8, "norm_num_groups": 4, "layers_per_block": 1,
        },
        frames=2, side=8, tokens=4, guidance=2.0,
    ),
    "pocket": Model({}, frames=8, side=8, tokens=16, guidance=2.0, weights="weights/pocket/unet"),
    "sd-106m": Model(
        {"block_out_channels": (96, 192, 384, 384), "attention_head_dim": (3, 6, 12, 12), "cross_attention_dim": 256},
        frames=8, side=32, tokens=77, guidance=10.0,
    ),
    "full": Model({}, frames=16, side=32, tokens=77, guidance=10.0),
}  # fmt: skip
