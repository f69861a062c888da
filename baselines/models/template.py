"""Copy this file to begin a new family: it works, for Wan 2.1, and does as little as a family can.

A family says what its pipeline does around one call of the network: which text the network gets (`text`), how it is
called (`call`), how sigmas are spaced (`timetable`, where the pipeline passes any) and how latents become pixels
(`pixels`). `tiny` builds its pipeline with random networks, offline; the conformance tests in tests/test_models.py
compare every variant with the pipeline's own loop.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from jaxtyping import Float, Num
from torch import Tensor

from baselines.model_contract import Model
from baselines.models.tiny_text import WIDTH, t5, words
from vidrd.denoiser import Text


class Skeleton(Model):
    """What the family is, and which pipeline of diffusers it is the counterpart of."""

    size = (480, 832)  # height and width in pixels, unless asked otherwise
    clip_frames = 81  # of the video, that the network was trained on
    fps = 16.0
    guidance = 5.0  # unless asked otherwise
    # levels = "frame"  # where `call` can give every latent frame its own time; `trained` then says what was trained

    @property
    def size_step(self) -> int:
        """Pixels to a side that sizes are multiples of: those of a patch."""
        return self.scale * int(self.pipe.transformer.config.patch_size[1])

    def text(self, prompts: Sequence[str]) -> Text:
        """Embedded prompts, one row for each, by the names that `call` passes to the network."""
        embedded, _ = self.pipe.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, max_sequence_length=512, device=self.device
        )
        return {"encoder_hidden_states": embedded}

    def text_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of one row of each, for counting work without weights."""
        return {"encoder_hidden_states": (512, self.pipe.transformer.config.text_dim)}

    def call(self, latents: Float[Tensor, "B C T H W"], timestep: Num[Tensor, "*T"], **text: Tensor) -> Any:
        """One call; the answer is `.sample`, B C T H W. Latents in another layout: write `packed` and `unpacked`."""
        network = self.pipe.transformer
        return network(hidden_states=latents.to(network.dtype), timestep=timestep.expand(len(latents)), **text)

    def pixels(self, latents: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B 3 t h w"]:
        """Undo the scaling of the latents, and decode the whole video in one pass."""
        config = self.pipe.vae.config
        mean, std = (
            torch.tensor(each).to(latents).reshape(1, -1, 1, 1, 1) for each in (config.latents_mean, config.latents_std)
        )
        pixels: Tensor = self.pipe.vae.decode(latents * std + mean).sample
        return pixels

    @classmethod
    def tiny(cls) -> Mapping[str, Callable[[], Any]]:
        """Every variant that takes another way through this file."""
        return {"tiny": _tiny}


def _tiny() -> WanPipeline:
    tokenizer = words()
    return WanPipeline(
        tokenizer=tokenizer,
        text_encoder=t5(tokenizer, "umt5"),
        transformer=WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=12, text_dim=WIDTH, ffn_dim=32, num_layers=2, rope_max_seq_len=32
        ),
        vae=AutoencoderKLWan(base_dim=3, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
