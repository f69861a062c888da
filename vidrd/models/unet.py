"""VidRD's U-Net: Stable Diffusion's, with temporal layers between the spatial ones."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.outputs import BaseOutput
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vidrd.models.blocks import (
    Downsample,
    Frames,
    OtherFrames,
    OverTime,
    ResnetBlock,
    TemporalConv,
    TimestepEmbedding,
    Transformer,
    TransformerBlock,
    Upsample,
    frames_of,
    group_norm,
    sinusoids,
)


@dataclass
class UNetOutput(BaseOutput):
    """Output of the U-Net.

    Attributes:
        sample: the prediction, B C T H W.
        deep: what the last stage of the way up read from below, (B*T) C H W: a later call may take it as given.
    """

    sample: Tensor
    deep: Tensor


class Stage(nn.Module):
    """One resolution of the U-Net: residual blocks, each followed by a Temp-Conv and a transformer."""

    def __init__(
        self,
        widths: list[tuple[int, int]],  # (in, out) channels of each residual block
        *,
        attentions: int,  # transformers, one after each of the last residual blocks
        heads: int,
        time_width: int,
        context_width: int,
        groups: int,
        linear: bool,
        embed: bool,
        temporal_conv: bool,
        dropout: float,
    ):
        super().__init__()
        out = widths[-1][1]
        self.resnets = nn.ModuleList(
            ResnetBlock(i, o, groups=groups, eps=1e-5, time_width=time_width) for i, o in widths
        )
        if temporal_conv:
            self.temp_convs = nn.ModuleList(
                TemporalConv(o, layers=4, groups=groups, dropout=dropout) for _, o in widths
            )
        if attentions:
            self.attentions = nn.ModuleList(
                Transformer(out, heads, context_width, groups=groups, linear=linear, embed=embed)
                for _ in range(attentions)
            )

    def layer(
        self, index: int, x: Frames, time: Tensor, context: Tensor, frames: int, *, attend: int | None
    ) -> OtherFrames:
        """Residual block `index`, its Temp-Conv, then transformer `attend` if there is one."""
        x = self.resnets[index](x, time, frames)
        if hasattr(self, "temp_convs"):
            x = self.temp_convs[index](x, frames)
        if attend is not None and hasattr(self, "attentions"):
            x = self.attentions[attend](x, context, frames)
        return x


class DownStage(Stage):
    """A resolution on the way down; returns every state that the way up will read."""

    def __init__(self, widths: list[tuple[int, int]], *, downsample: bool, **kwargs: Any):
        super().__init__(widths, **kwargs)
        if downsample:
            self.downsamplers = nn.ModuleList([Downsample(widths[-1][1])])

    def forward(self, x: Frames, time: Tensor, context: Tensor, frames: int) -> list[Tensor]:
        """All states, the last one being the input of the next stage."""
        states = []
        for i in range(len(self.resnets)):
            x = self.layer(i, x, time, context, frames, attend=i)
            states.append(x)
        if hasattr(self, "downsamplers"):
            states.append(self.downsamplers[0](x))
        return states


class MiddleStage(Stage):
    """The lowest resolution: a residual block, a transformer, a residual block."""

    def forward(self, x: Frames, time: Tensor, context: Tensor, frames: int) -> Frames:
        """Frames in, frames out."""
        x = self.layer(0, x, time, context, frames, attend=0)
        return self.layer(1, x, time, context, frames, attend=None)


class UpStage(Stage):
    """A resolution on the way up; reads one state of the way down before each residual block."""

    def __init__(self, widths: list[tuple[int, int]], *, upsample: bool, **kwargs: Any):
        super().__init__(widths, **kwargs)
        if upsample:
            self.upsamplers = nn.ModuleList([Upsample(widths[-1][1])])

    def forward(
        self,
        x: Frames,
        skips: list[Tensor],  # in the order of the way down
        size: tuple[int, int] | None,  # height and width to enlarge to
        time: Tensor,
        context: Tensor,
        frames: int,
    ) -> OtherFrames:
        """Frames in, frames of twice the size out."""
        for i, skip in enumerate(reversed(skips)):
            x = self.layer(i, torch.cat([x, skip], dim=1), time, context, frames, attend=i)
        return self.upsamplers[0](x, size) if hasattr(self, "upsamplers") else x


class UNet3DConditionModel(ModelMixin, ConfigMixin):
    """Predicts the noise (or v) of a clip from its noisy latents, a timestep and text embeddings.

    With the default sizes it is the 1182.4 M parameter network of the released VidRD (Stable Diffusion 2.1 widths) and
    loads its state dict strictly. `attention_head_dim` is the NUMBER of heads, one for all stages or one a stage,
    as in the configurations of Stable Diffusion. A single frame skips the temporal layers; `add_temp_embed` still adds
    the sinusoid of frame 0 to it, as the released code does.

    Source: arXiv 2309.03549, section 4 and its architecture figure.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        sample_size: int | None = 32,  # latent height and width, for users of the configuration
        in_channels: int = 4,
        out_channels: int = 4,
        down_block_types: Sequence[str] = ("CrossAttnDownBlock3D",) * 3 + ("DownBlock3D",),  # the way up mirrors it
        block_out_channels: Sequence[int] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        attention_head_dim: int | Sequence[int] = (5, 10, 20, 20),  # number of heads
        cross_attention_dim: int = 1024,
        use_linear_projection: bool = True,
        norm_num_groups: int = 32,
        add_temp_embed: bool = True,
        add_temp_conv: bool = True,
        temp_conv_dropout: float = 0.1,
    ):
        super().__init__()
        widths = list(block_out_channels)
        stages = len(widths)
        heads = [attention_head_dim] * stages if isinstance(attention_head_dim, int) else list(attention_head_dim)
        if not len(down_block_types) == len(heads) == stages:
            raise ValueError(
                f"every stage needs a width, a block type and a number of heads; got {stages} widths, "
                f"{len(down_block_types)} block types and {len(heads)} numbers of heads"
            )
        attends = [name.startswith("CrossAttn") for name in down_block_types]
        time_width = 4 * widths[0]
        common: dict[str, Any] = {
            "time_width": time_width,
            "context_width": cross_attention_dim,
            "groups": norm_num_groups,
            "linear": use_linear_projection,
            "embed": add_temp_embed,
            "temporal_conv": add_temp_conv,
            "dropout": temp_conv_dropout,
        }
        self.gradient_checkpointing = False
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(widths[0], time_width)

        self.down_blocks = nn.ModuleList()
        for i, width in enumerate(widths):
            first = widths[max(i - 1, 0)]
            self.down_blocks.append(
                DownStage(
                    [(first if j == 0 else width, width) for j in range(layers_per_block)],
                    attentions=layers_per_block * attends[i],
                    heads=heads[i],
                    downsample=i < stages - 1,
                    **common,
                )
            )
        self.mid_block = MiddleStage([(widths[-1], widths[-1])] * 2, attentions=1, heads=heads[-1], **common)

        self.up_blocks = nn.ModuleList()
        for i in reversed(range(stages)):
            below, left = widths[min(i + 1, stages - 1)], widths[max(i - 1, 0)]
            pairs = []
            for j in range(layers_per_block + 1):
                skip = left if j == layers_per_block else widths[i]
                pairs.append(((below if j == 0 else widths[i]) + skip, widths[i]))
            self.up_blocks.append(
                UpStage(
                    pairs,
                    attentions=(layers_per_block + 1) * attends[i],
                    heads=heads[i],
                    upsample=i > 0,
                    **common,
                )
            )
        self.conv_norm_out = nn.GroupNorm(norm_num_groups, widths[0], 1e-5)
        self.conv_out = nn.Conv2d(widths[0], out_channels, 3, padding=1)

    def forward(
        self,
        sample: Float[Tensor, "B C T H W"],
        timestep: Num[Tensor, "..."] | float | int,
        encoder_hidden_states: Float[Tensor, "B *t L D"],
        return_dict: bool = True,
        deep: OtherFrames | None = None,
    ) -> UNetOutput | tuple[Tensor, Tensor]:
        """Predict.

        Args:
            sample: noisy latents.
            timestep: training timesteps: one number, one a sample (B), or one a frame (B T).
            encoder_hidden_states: text embeddings, the same for all frames of a sample, or of each frame (B T L D).
            return_dict: False returns a plain tuple, as diffusers models do.
            deep: an earlier call's, of the same shape: only the first stage down and the last stage up are then run
                (`vidrd.approximate`).
        """
        B, _, T, H, W = sample.shape
        time = self._embed_time(torch.as_tensor(timestep, device=sample.device), B, sample.dtype)
        rest = (time, encoder_hidden_states.flatten(0, -3), T)
        downs, ups, count = list(self.down_blocks), list(self.up_blocks), self.config.layers_per_block + 1
        x = self.conv_in(frames_of(sample))
        skips = [x, *self._run(downs[0], x, *rest)]
        if deep is None:
            for down in downs[1:]:
                skips += self._run(down, skips[-1], *rest)
            deep = self._run(self.mid_block, skips[-1], *rest)
            for up in ups[:-1]:
                taken, skips = skips[-count:], skips[:-count]
                deep = self._run(up, deep, taken, (skips[-1].shape[2], skips[-1].shape[3]), *rest)
        x = self._run(ups[-1], deep, skips[:count], None, *rest)
        x = self.conv_out(F.silu(group_norm(x, self.conv_norm_out, T)))

        prediction = x.reshape(B, T, -1, H, W).transpose(1, 2)
        return UNetOutput(sample=prediction, deep=deep) if return_dict else (prediction, deep)

    @contextmanager
    def attend_in(self, over_time: OverTime) -> Iterator[None]:
        """A context in which positions and temporal attention see frames as `over_time` says, for example in windows.

        Other layers see all frames. However it ends, the network is as before.
        """
        blocks = [module for module in self.modules() if isinstance(module, TransformerBlock)]
        before = [block.over_time for block in blocks]
        try:
            for block in blocks:
                block.over_time = over_time
            yield
        finally:
            for block, way in zip(blocks, before, strict=True):
                block.over_time = way

    def _embed_time(self, timestep: Num[Tensor, "..."], batch: int, dtype: torch.dtype) -> Float[Tensor, "B t D"]:
        """One embedding per sample (t = 1) or per frame."""
        if timestep.ndim == 0:
            timestep = timestep.expand(batch)
        if timestep.ndim == 1:
            timestep = timestep[:, None]
        return self.time_embedding(sinusoids(timestep, self.config.block_out_channels[0]).to(dtype))

    def _run(self, stage: nn.Module, *args: Any) -> Any:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(stage, *args, use_reentrant=False)
        return stage(*args)


def is_temporal(key: str) -> bool:
    """Whether a state-dict key belongs to a layer that VidRD adds to the 2-D network."""
    return ".temp_convs." in key or ".temp_attn." in key or ".temp_norm." in key
