"""The temporal attention of diffusers' U-Nets in windows (FreeNoise), by a hook that leaves nothing behind.

Positions and attention are those of each window, which begins at position 0; all else sees the whole video.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from jaxtyping import Float
from torch import Tensor, nn

from baselines.models.longer_windows import wrapped
from vidrd.models.blocks import OverTime

TEMPORAL = (AnimateDiffTransformer3D, TransformerTemporalModel)


@contextmanager
def attend_in(network: nn.Module, over_time: OverTime) -> Iterator[None]:
    """The network's temporal attention by `over_time`, place by place, while this is open."""
    hooks: list[tuple[nn.Module, str, Callable[..., Tensor]]] = []
    for block in temporal_blocks(network):
        positions = None if block.pos_embed is None else block.pos_embed.forward
        cut = partial(_cut, positions=positions, over_time=over_time)
        hooks += [(attention, "forward", cut) for attention in (block.attn1, block.attn2)]
        if positions is not None:
            hooks.append((block.pos_embed, "forward", lambda forward, tokens: tokens))
    with wrapped(hooks):
        yield


def temporal_blocks(network: nn.Module) -> list[Any]:
    """The blocks that attend over time, frame by frame at every place."""
    return [block for part in network.modules() if isinstance(part, TEMPORAL) for block in part.transformer_blocks]


def _cut(
    attention: Callable[..., Float[Tensor, "S F D"]],
    tokens: Float[Tensor, "S T D"],  # of every place, in time
    encoder_hidden_states: Tensor | None = None,
    *,
    positions: Callable[[Float[Tensor, "S F D"]], Float[Tensor, "S F D"]] | None,
    over_time: OverTime,
    **more: Any,
) -> Float[Tensor, "S T D"]:
    """Attention over time, as `over_time` says; over text it stays as it is."""
    if encoder_hidden_states is not None:
        return attention(tokens, encoder_hidden_states=encoder_hidden_states, **more)

    def layer(cut: Float[Tensor, "SF 1 D"], frames: int) -> Float[Tensor, "SF 1 D"]:
        window = cut.reshape(-1, frames, cut.shape[-1])
        return attention(window if positions is None else positions(window), **more).reshape(cut.shape)

    return over_time(layer, tokens.flatten(0, 1)[:, None]).reshape(tokens.shape)
