"""START HERE: from prompts to videos.

    prompt -> text embeddings (vidrd/text.py) -> Denoiser (vidrd/denoiser.py) -> clips (vidrd/sampling.py, on the
    levels of vidrd/schedule.py, from the noise of vidrd/noise.py) -> frames (vidrd/models/vae.py) -> uint8 video
    (vidrd/video.py)

`VidRDPipeline.__call__` is that way on one screen, and its steps are methods, so that another sampler can take the
place of VidRD's: that is how the baselines and the bench use it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils.outputs import BaseOutput
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image
from torch import Tensor

from vidrd.approximate import Reusing
from vidrd.compiled_unet import Call, compiled, fingerprint
from vidrd.decoding import ClipDecoder
from vidrd.denoiser import GuidedDenoiser
from vidrd.models.unet import UNet3DConditionModel
from vidrd.models.vae import AutoencoderKLTemporal
from vidrd.noise import StreamNoise, as_seeds
from vidrd.sampler_contract import Event, Request, Result
from vidrd.sampling import Options, plan, sample
from vidrd.schedule import Schedule
from vidrd.solvers import schedule as schedule_of
from vidrd.text import embed

# (pipeline, step, timestep, {"latents": B C T H W}): to look at, not to touch
StepCallback = Callable[["VidRDPipeline", int, int | float, dict[str, Tensor]], Mapping[str, Tensor] | None]


@dataclass
class VideoOutput(BaseOutput):
    """Finished videos.

    Attributes:
        frames: B T H W C uint8 RGB ("np"), a list of lists of pictures ("pil"), or latents B C T H W ("latent").
        result: the sampler's account: seams, and the origin of every frame.
    """

    frames: Any
    result: Result


class VidRDPipeline(DiffusionPipeline):
    """Text to long video by "Reuse and Diffuse" (arXiv 2309.03549).

    A diffusers pipeline: from_pretrained, save_pretrained, to, CPU offload, the progress bar and callbacks work as
    everywhere in diffusers.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae"
    _callback_tensor_inputs = ("latents",)

    def __init__(
        self,
        vae: AutoencoderKLTemporal,
        text_encoder: Any,
        tokenizer: Any,
        unet: UNet3DConditionModel,
        scheduler: Any,  # its configuration is read, its state never used
        clip: int = 8,  # frames the U-Net was trained on
    ):
        super().__init__()
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler)
        self.register_to_config(clip=clip)
        self._compiled: tuple[Any, Call] | None = None  # fingerprint of the weights, and the function of them

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        num_frames: int = 16,
        num_inference_steps: int = 50,
        guidance_scale: float = 10.0,
        negative_prompt: str = "",
        options: Options | None = None,  # overlap, alpha, beta, join, compat; None: the released example's
        eta: float = 0.0,
        seed: int | Sequence[int] | Any = 0,  # of the first video, the next one's is one more; or one for each
        generator: torch.Generator | None = None,  # compat="released" only: the one stream of the whole batch
        height: int | None = None,  # pixels; None: what the U-Net was trained on
        width: int | None = None,
        output_type: Literal["np", "pil", "latent"] = "np",
        callback_on_step_end: StepCallback | None = None,  # gets {"latents": B C T H W} of the clip in the making
        # Faster, and the same videos but for rounding:
        dtype: torch.dtype | None = None,  # casts the networks for good; None: as they were loaded
        compile: bool = False,  # noqa: A002  # the U-Net through torch.compile: slow first call of each shape
        batch_clips: int = 1,  # clips of a video that go through their steps side by side; takes so much more memory
        decode_aside: bool = True,  # on CUDA clips are decoded in a stream of their own while the next are denoised
        # Approximations, other videos:
        solver: str = "ddim",  # "dpmsolver++", "unipc": fewer steps will do, some 20
        reuse_every: int = 1,  # all stages of the U-Net run every so many steps only; 1 is exact
    ) -> VideoOutput:
        """Make one video for each prompt.

        Raises:
            ValueError: the request cannot be met; the message says the rule, what it got and what to do.
        """
        options = options or Options()
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        seeds = as_seeds(seed, len(prompts))
        if generator is not None and options.compat != "released":
            raise ValueError("a generator serves compat='released' alone: name each video's noise by `seed`")
        if batch_clips < 1:
            raise ValueError(f"batch_clips is a count of clips from 1 upwards: got {batch_clips}")
        if dtype is not None:
            self.to(dtype)
        clip = self.config.clip
        budget = batch_clips * clip * len(prompts)
        request = Request(num_frames, clip, self.latent_shape_of(height, width), seeds, eta, budget)
        calls = plan(request, num_inference_steps, options).calls

        denoise = self.denoiser(prompts, negative_prompt=negative_prompt, guidance=guidance_scale, compile=compile)
        if reuse_every != 1:
            denoise = replace(denoise, unet=Reusing(denoise.unet, reuse_every, num_inference_steps))
        schedule = self.schedule(num_inference_steps, solver)
        noise = None
        if options.compat == "released":
            noise = StreamNoise(generator or torch.Generator().manual_seed(seeds[0]), len(prompts))
        together = 1 if options.compat == "released" else clip  # frames that the VAE sees at once
        decoder = None
        if output_type != "latent" and not hasattr(self.vae, "_hf_hook"):
            decoder = ClipDecoder(self.vae, clip=together, aside=decode_aside)
        with self.progress_bar(total=calls) as bar:

            def on_event(event: Event) -> None:
                if event.kind == "call":
                    bar.update()
                if event.kind == "frames" and decoder is not None:
                    decoder.add(event.latents)
                if event.kind == "step" and callback_on_step_end is not None:
                    timestep = schedule.timesteps[event.step]
                    back = callback_on_step_end(self, event.step, timestep, {"latents": event.latents})
                    if back and back.get("latents", event.latents) is not event.latents:
                        raise ValueError("callback_on_step_end may look at the latents, not replace them")

            result = sample(
                denoise,
                schedule,
                request,
                options,
                noise=noise,
                on_event=on_event,
                device=self._execution_device,
                dtype=self.unet.dtype,
            )
        if output_type == "latent":
            return VideoOutput(frames=result.latents, result=result)
        if decoder is None:  # offloaded: each network comes to the device once
            videos = self.decode(result.latents, clip=together)
        else:
            videos = decoder.finish()
        self.maybe_free_model_hooks()
        if output_type == "np":
            return VideoOutput(frames=videos, result=result)
        return VideoOutput(frames=[[Image.fromarray(frame) for frame in video] for video in videos], result=result)

    def denoiser(
        self,
        prompts: Sequence[str],
        *,
        negative_prompt: str = "",
        guidance: float = 10.0,
        compile: bool = False,  # noqa: A002
    ) -> GuidedDenoiser:
        """The U-Net with text and guidance bound in, which is all that a sampler uses of it."""
        text = [*prompts, negative_prompt] if guidance != 1 else list(prompts)
        embedded = embed(text, self.tokenizer, self.text_encoder, self._execution_device).to(self.unet.dtype)
        context = embedded[: len(prompts)]
        negative = embedded[-1:].expand_as(context) if guidance != 1 else None
        unet = self.compiled_unet() if compile else self.unet
        return GuidedDenoiser(unet, context, negative, guidance, clip=self.config.clip)

    def compiled_unet(self) -> Call:
        """The U-Net through torch.compile; compiled again after its weights have been changed, moved or cast.

        Raises:
            ValueError: it cannot be, see `vidrd.compiled_unet.compiled`.
        """
        weights = fingerprint(self.unet)
        if self._compiled is None or self._compiled[0] != weights:
            self._compiled = (weights, compiled(self.unet))
        return self._compiled[1]

    def schedule(self, steps: int, solver: str = "ddim") -> Schedule:
        """The levels of `steps` steps of a solver, over the noise of this pipeline's scheduler."""
        return schedule_of(solver, self.scheduler.config, steps)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """C H W of a frame's latents at the size that the U-Net was trained on."""
        return self.latent_shape_of(None, None)

    def latent_shape_of(self, height: int | None, width: int | None) -> tuple[int, int, int]:
        """C H W of a frame's latents at a size in pixels.

        Raises:
            ValueError: a side is no multiple of the VAE's reduction.
        """
        cell = self.vae.downscale
        sides = [side or self.unet.config.sample_size * cell for side in (height, width)]
        for side in sides:
            if side < cell or side % cell:
                raise ValueError(
                    f"height and width must be multiples of {cell} pixels: got {sides[0]} x {sides[1]}, "
                    f"try {max(cell, side - side % cell)}"
                )
        return self.unet.config.in_channels, sides[0] // cell, sides[1] // cell

    @torch.no_grad()
    def decode(
        self,
        latents: Float[Tensor, "B C T H W"],
        *,
        clip: int | None = None,  # frames that the decoder sees together; 1: each alone; None: the U-Net's clip
        chunk: int = 64,  # frames decoded at once, at least one clip
    ) -> UInt8[ndarray, "B T h w 3"]:
        """Turn latents into video, clip by clip: the VAE never looks across a seam.

        A last clip that was cropped is decoded as the shorter clip that it is.
        """
        decoder = ClipDecoder(self.vae, clip=clip or self.config.clip, chunk=chunk)
        decoder.add(latents)
        return decoder.finish()
