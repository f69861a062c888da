"""START HERE: from prompts to videos.

    prompt -> text embeddings (vidrd/text.py) -> Denoiser (vidrd/denoiser.py) -> clips (vidrd/sampling.py, on the
    levels of vidrd/schedule.py, from the noise of vidrd/noise.py) -> frames (vidrd/models/vae.py) -> uint8 video
    (vidrd/video.py)

`VidRDPipeline.__call__` is that way on one screen, and its steps are methods, so that another sampler can take the
place of VidRD's: that is how the baselines and the bench use it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils.outputs import BaseOutput
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel

from vidrd.approximate import ReusingUNet
from vidrd.compiled_unet import Call, compiled, fingerprint
from vidrd.decoding import ClipDecoder
from vidrd.denoiser import GuidedDenoiser, ScheduledDenoiser
from vidrd.exact_loading import load_network
from vidrd.models.blocks import frames_of
from vidrd.models.unet import UNet3DConditionModel
from vidrd.models.vae import AutoencoderKLTemporal
from vidrd.noise import GivenNoise, KeyedNoise, Noise, StreamNoise, as_seeds, draw_seeds
from vidrd.prompt_schedule import BLEND, PromptSchedule, changes, read_prompts
from vidrd.sampler_contract import Event, OnEvent, Request, Result
from vidrd.sampling import Options, plan, sample
from vidrd.schedule import Schedule
from vidrd.solvers import MULTISTEP, SolverName
from vidrd.solvers import schedule as schedule_of
from vidrd.text import embed
from vidrd.video import to_float

# (pipeline, step, timestep, {"latents": B C T H W}): to look at, not to touch
StepCallback = Callable[["VidRDPipeline", int, int | float, dict[str, Tensor]], Mapping[str, Tensor] | None]
LONGEST_CLIP = 4096  # frames
OUTPUT_TYPES = ("np", "pt", "pil", "uint8", "latent")
SOLVER_OF: Mapping[str, SolverName] = {  # what a pipeline's scheduler, by its class, stands for
    "DDIMScheduler": "ddim",
    "DPMSolverMultistepScheduler": "dpmsolver++",
    "UniPCMultistepScheduler": "unipc",
}


@dataclass
class VideoOutput(BaseOutput):
    """Finished videos.

    Attributes:
        frames: as diffusers has them, B T H W C float32 in [0, 1] ("np"), B T C H W the same ("pt") or a list of lists
            of pictures ("pil"); or B T H W C uint8 ("uint8"), or latents B C T H W ("latent").
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
        if isinstance(clip, bool) or not isinstance(clip, int) or not 1 <= clip <= LONGEST_CLIP:
            raise ValueError(f"a clip is a count of frames from 1 to {LONGEST_CLIP}: got {clip!r}")
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler)
        self.register_to_config(clip=clip)
        self._compiled: tuple[Any, Call] | None = None  # fingerprint of the weights, and the function of them

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Any:  # VidRDPipeline
        """As diffusers does, but every network of a folder is loaded exactly or not at all.

        Raises:
            ValueError: a network's files lack tensors or hold others.
        """
        folder = Path(pretrained_model_name_or_path)
        if folder.is_dir():
            dtype = options.get("torch_dtype") or options.get("dtype") or torch.float32
            kinds = {"unet": UNet3DConditionModel, "vae": AutoencoderKLTemporal, "text_encoder": CLIPTextModel}
            for name in kinds.keys() - options.keys():
                options[name] = load_network(kinds[name], folder / name, dtype=dtype)
        return super().from_pretrained(str(folder), **options)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,  # "0: text | 40: other text" changes at frame 40
        *,
        num_frames: int = 16,
        num_inference_steps: int = 50,
        num_videos_per_prompt: int = 1,  # side by side in the batch, each with a seed of its own
        guidance_scale: float = 10.0,
        negative_prompt: str | Sequence[str] | None = "",  # of all videos, or one for each; None is ""
        options: Options | None = None,  # overlap, alpha, beta, join, compat; None: the released example's
        eta: float = 0.0,
        seed: int | Sequence[int] | Any = 0,  # of the first video, the next one's is one more; or one for each
        generator: torch.Generator | Sequence[torch.Generator] | None = None,  # in place of `seed`: draws the seeds;
        # with compat="released" the one stream of the whole batch
        latents: Float[Tensor, "B C T H W"] | None = None,  # initial noise of all clips, one after the other
        video: UInt8[ndarray, "B M h w 3"] | None = None,  # frames to go on from: the videos' first, kept as they are
        prompt_embeds: Float[Tensor, "B L D"] | None = None,  # in place of `prompt`
        negative_prompt_embeds: Float[Tensor, "B L D"] | None = None,  # in place of `negative_prompt`
        height: int | None = None,  # pixels; None: what the U-Net was trained on
        width: int | None = None,
        output_type: str = "np",  # of OUTPUT_TYPES
        return_dict: bool = True,  # False: (frames,)
        prompt_blend: int = BLEND,  # frames around a change of the prompt in which both texts count; 0: none
        callback_on_step_end: StepCallback | None = None,  # gets {"latents": B C T H W} of the clip in the making
        # Faster, and the same videos but for rounding:
        dtype: torch.dtype | None = None,  # casts the networks for good; None: as they were loaded
        compile: bool = False,  # noqa: A002  # the U-Net through torch.compile: slow first call of each shape
        batch_clips: int = 1,  # clips of a video that go through their steps side by side; takes so much more memory
        decode_aside: bool = True,  # on CUDA clips are decoded in a stream of their own while the next are denoised
        # Approximations, other videos:
        solver: str | None = None,  # "ddim"; "dpmsolver++", "unipc": some 20 steps will do; None: the scheduler's
        reuse_every: int = 1,  # all stages of the U-Net run every so many steps only; 1 is exact
    ) -> Any:  # VideoOutput, or (frames,)
        """Make one video for each prompt, or as many as asked.

        Raises:
            ValueError: the request cannot be met, or `_interrupt` was set meanwhile; the message says the rule, what it
                got and what to do.
        """
        self._interrupt = False
        options = options or Options()
        if num_videos_per_prompt != 1:
            prompt = _repeated(prompt, num_videos_per_prompt)
            prompt_embeds = _repeated(prompt_embeds, num_videos_per_prompt)
            video = _repeated(video, num_videos_per_prompt)
            if not _is_shared(negative_prompt):
                negative_prompt = _repeated(negative_prompt, num_videos_per_prompt)
            if not _is_shared(negative_prompt_embeds):
                negative_prompt_embeds = _repeated(negative_prompt_embeds, num_videos_per_prompt)
        videos = _count(prompt, prompt_embeds)
        seeds, stream = _sources(seed, generator, videos, released=options.compat == "released")
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type is one of {', '.join(OUTPUT_TYPES)}: got {output_type!r}")
        if batch_clips < 1:
            raise ValueError(f"batch_clips is a count of clips from 1 upwards: got {batch_clips}")
        read_prompts(_listed(prompt), num_frames)
        if dtype is not None:
            self.to(dtype)
        clip = self.config.clip
        budget = batch_clips * clip * videos
        shape = self.latent_shape_of(height, width)
        past = None if video is None else self.encode(video, shape)
        request = Request(num_frames, clip, shape, seeds, eta, budget, past)
        todo = plan(request, num_inference_steps, options)
        schedule = self.schedule(num_inference_steps, solver)
        noise: Noise = stream or KeyedNoise(seeds)
        if latents is not None:
            C, H, W = request.shape
            clips = len(todo.windows) + (video is not None)  # clip 0 is the given frames'
            noise = GivenNoise(latents, (videos, C, clip * clips, H, W), clip, noise)

        denoise = self.denoiser(
            prompt, negative_prompt=negative_prompt, guidance=guidance_scale, compile=compile,
            prompt_embeds=prompt_embeds, negative_prompt_embeds=negative_prompt_embeds, blend=prompt_blend,
        )  # fmt: skip
        if reuse_every != 1:
            denoise = replace(denoise, unet=ReusingUNet(denoise.unet, reuse_every, num_inference_steps))
        together = 1 if options.compat == "released" else clip  # frames that the VAE sees at once
        decoder = None
        if output_type != "latent" and not hasattr(self.vae, "_hf_hook"):
            decoder = ClipDecoder(self.vae, clip=together, aside=decode_aside)
        with self.progress_bar(total=todo.calls) as bar:
            result = sample(
                denoise, schedule, request, options, noise=noise,
                on_event=self._listener(bar, decoder, schedule, callback_on_step_end),
                device=self._execution_device, dtype=self.unet.dtype,
            )  # fmt: skip
        if output_type == "latent":
            frames: Any = result.latents
        else:  # offloaded: each network comes to the device once
            pixels = self.decode(result.latents, clip=together) if decoder is None else decoder.finish()
            if video is not None:
                pixels[:, : video.shape[1]] = video
            frames = _as_output(pixels, output_type)
        self.maybe_free_model_hooks()
        return VideoOutput(frames=frames, result=result) if return_dict else (frames,)

    def _listener(
        self, bar: Any, decoder: ClipDecoder | None, schedule: Schedule, callback: StepCallback | None
    ) -> OnEvent:
        """What follows from the sampler's events: the progress bar moves, finished frames are decoded, callers look."""

        def on_event(event: Event) -> None:
            if event.kind == "call":
                bar.update()
            if event.kind == "frames" and decoder is not None:
                decoder.add(event.latents)
            if event.kind == "step" and callback is not None:
                back = callback(self, event.step, schedule.timesteps[event.step], {"latents": event.latents})
                if back and back.get("latents", event.latents) is not event.latents:
                    raise ValueError("callback_on_step_end may look at the latents, not replace them")
            if event.kind == "step" and self._interrupt:
                raise ValueError(
                    "videos are made whole or not at all: got _interrupt, raise an exception in callback_on_step_end"
                )

        return on_event

    def denoiser(
        self,
        prompts: str | Sequence[str] | None,
        *,
        negative_prompt: str | Sequence[str] | None = "",
        guidance: float = 10.0,
        compile: bool = False,  # noqa: A002
        prompt_embeds: Float[Tensor, "B L D"] | None = None,
        negative_prompt_embeds: Float[Tensor, "B L D"] | None = None,
        blend: int = BLEND,
    ) -> GuidedDenoiser:
        """The U-Net with text and guidance bound in, which is all that a sampler uses of it.

        Raises:
            ValueError: there are neither prompts nor their embeddings or both, not one negative prompt or one each, or
                a schedule of prompts that cannot be read.
        """
        videos = _count(prompts, prompt_embeds)
        if blend < 0:
            raise ValueError(f"prompts blend over a count of frames from 0 upwards: got {blend}")
        schedules = read_prompts(_listed(prompts))
        first = [schedule.texts[0] for schedule in schedules]
        context = self._context("prompt", None if prompts is None else first, prompt_embeds, videos)
        negative = None
        if guidance != 1:
            words = None if negative_prompt_embeds is not None and not negative_prompt else negative_prompt or ""
            if changes(read_prompts(_listed(words))):
                raise ValueError(f"a negative prompt holds for the whole video: got {words!r}, write it without frames")
            negative = self._context("negative_prompt", words, negative_prompt_embeds, videos)
        unet = self.compiled_unet() if compile else self.unet
        if changes(schedules):
            texts, shares = self._changing(schedules, blend)
            return ScheduledDenoiser(
                unet, context, negative, guidance, clip=self.config.clip, texts=texts, shares=shares
            )
        return GuidedDenoiser(unet, context, negative, guidance, clip=self.config.clip)

    def _changing(
        self, schedules: Sequence[PromptSchedule], blend: int
    ) -> tuple[Float[Tensor, "S L D"], Callable[[Tensor], Tensor]]:
        """The different texts of schedules, and the share of each in any frames (T) of each video (B T S)."""
        texts = list(dict.fromkeys(text for schedule in schedules for text in schedule.texts))
        columns = [torch.tensor([texts.index(text) for text in schedule.texts]) for schedule in schedules]

        def shares(frames: Tensor) -> Tensor:
            whole = torch.zeros(len(schedules), len(frames), len(texts))
            for row, schedule, column in zip(whole, schedules, columns, strict=True):
                row.index_add_(1, column, schedule.shares(frames, blend))
            return whole

        return self._context("prompt", texts, None, len(texts)), shares

    def _context(
        self, name: str, words: str | Sequence[str] | None, embeds: Float[Tensor, "B L D"] | None, videos: int
    ) -> Float[Tensor, "B L D"]:
        """Embeddings of prompts, or those that were given, one for each video."""
        if words is not None and embeds is not None:
            raise ValueError(f"{name} and {name}_embeds stand for each other: got both, pass one")
        if embeds is None:
            embeds = embed(_listed(words), self.tokenizer, self.text_encoder, self._execution_device)
        if len(embeds) not in (1, videos):
            raise ValueError(f"{name} is one for all videos or one for each: got {len(embeds)} for {videos} videos")
        width = self.unet.config.cross_attention_dim
        if embeds.ndim != 3 or embeds.shape[-1] != width:
            raise ValueError(f"{name}_embeds have shape videos x tokens x {width}: got {tuple(embeds.shape)}")
        return embeds.to(self._execution_device, self.unet.dtype).expand(videos, -1, -1)

    def compiled_unet(self) -> Call:
        """The U-Net through torch.compile; compiled again after its weights have been changed, moved or cast.

        Raises:
            ValueError: it cannot be, see `vidrd.compiled_unet.compiled`.
        """
        weights = fingerprint(self.unet)
        if self._compiled is None or self._compiled[0] != weights:
            self._compiled = (weights, compiled(self.unet))
        return self._compiled[1]

    def schedule(self, steps: int, solver: str | None = None) -> Schedule:
        """The levels of `steps` steps of a solver, over the noise of this pipeline's scheduler.

        Raises:
            ValueError: the scheduler is of a kind, or has settings, that no solver here stands for.
        """
        kind, config = type(self.scheduler).__name__, dict(self.scheduler.config)
        if kind not in SOLVER_OF:
            raise ValueError(f"the scheduler is one of {', '.join(SOLVER_OF)}: got {kind}, set one by its from_config")
        name = solver or SOLVER_OF[kind]
        if kind != "DDIMScheduler":
            config = {"clip_sample": False, **config}  # a setting of DDIM's alone
            fixed = MULTISTEP[SOLVER_OF[kind]][1] | {"use_flow_sigmas": False}
            other = [f"{key}={config[key]!r}" for key, value in fixed.items() if config.get(key, value) != value]
            if other and name == SOLVER_OF[kind]:
                raise ValueError(f"{kind} runs here with {fixed}: got {', '.join(other)}, set these back")
        return schedule_of(name, config, steps)

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
        sides = [self.unet.config.sample_size * cell if side is None else side for side in (height, width)]
        for side in sides:
            if side < cell or side % cell:
                raise ValueError(
                    f"height and width must be multiples of {cell} pixels: got {sides[0]} x {sides[1]}, "
                    f"try {max(cell, side - side % cell)}"
                )
        return self.unet.config.in_channels, sides[0] // cell, sides[1] // cell

    @torch.no_grad()
    def encode(
        self, video: UInt8[ndarray, "B M h w 3"], shape: tuple[int, int, int], *, chunk: int = 64
    ) -> Float[Tensor, "B C M H W"]:
        """Turn frames into latents of that shape (C H W): the means of their distributions.

        Raises:
            ValueError: frames of another size, or no array of pixels.
        """
        side = self.vae.downscale
        if not (isinstance(video, ndarray) and video.dtype == np.uint8 and video.ndim == 5 and video.shape[-1] == 3):
            got = f"{getattr(video, 'dtype', type(video).__name__)} {tuple(getattr(video, 'shape', ()))}"
            raise ValueError(f"given frames are a uint8 array, B M h w 3, with a video for each prompt: got {got}")
        if tuple(video.shape[2:4]) != (shape[1] * side, shape[2] * side):
            wanted, got = f"{shape[1] * side} x {shape[2] * side}", f"{video.shape[2]} x {video.shape[3]}"
            raise ValueError(f"given frames have the size of the video, {wanted}: got {got}, resize them")
        frames = frames_of(to_float(video)).to(self._execution_device, self.vae.dtype)
        parts = [self.vae.encode(part).latent_dist.mode() for part in frames.split(chunk)]
        latents = torch.cat(parts) * self.vae.config.scaling_factor
        return latents.unflatten(0, (len(video), -1)).transpose(1, 2)

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


def _listed(prompts: str | Sequence[str] | None) -> list[str]:
    """Prompts as a list of texts.

    Raises:
        ValueError: they are something else.
    """
    if prompts is None or isinstance(prompts, str):
        return [] if prompts is None else [prompts]
    listed = list(prompts) if isinstance(prompts, Collection) else [prompts]
    other = [prompt for prompt in listed if not isinstance(prompt, str)]
    if other or not listed:
        raise ValueError(f"a prompt is a text, and prompts are a list of texts: got {prompts!r:.80}, pass text")
    return listed


def _repeated(given: Any, times: int) -> Any:
    """Prompts, their embeddings or given frames so many times each, one after the other.

    Raises:
        ValueError: `times` is no count.
    """
    if isinstance(times, bool) or not isinstance(times, int) or times < 1:
        raise ValueError(f"num_videos_per_prompt is a count from 1 upwards: got {times!r}")
    if isinstance(given, Tensor):
        return given.repeat_interleave(times, dim=0)
    if isinstance(given, ndarray):
        return given.repeat(times, axis=0)
    return None if given is None else [text for text in _listed(given) for _ in range(times)]


def _is_shared(given: Any) -> bool:
    """Whether a negative prompt or its embedding holds for all videos."""
    return given is None or isinstance(given, str) or len(given if isinstance(given, Tensor) else _listed(given)) == 1


def _count(prompt: str | Sequence[str] | None, embeds: Tensor | None) -> int:
    """Number of videos."""
    if (prompt is None) == (embeds is None):
        got = "both" if embeds is not None else "neither"
        raise ValueError(f"prompt and prompt_embeds stand for each other: got {got}, pass one")
    return len(embeds) if embeds is not None else len(_listed(prompt))


def _sources(
    seed: Any, generator: torch.Generator | Sequence[torch.Generator] | None, videos: int, *, released: bool
) -> tuple[tuple[int, ...], StreamNoise | None]:
    """Seeds of the videos, and in the released mode the one stream of the whole batch."""
    seeds = as_seeds(seed, videos)
    if generator is None:
        return seeds, StreamNoise(torch.Generator().manual_seed(seeds[0]), videos) if released else None
    if seeds != as_seeds(0, videos):
        raise ValueError(f"noise comes from `seed` or from `generator`: got both, leave out seed {seed!r}")
    if not released:
        return draw_seeds(generator, videos), None
    if not isinstance(generator, torch.Generator):
        raise ValueError("compat='released' reads one stream for the whole batch: pass one generator, not a list")
    return seeds, StreamNoise(generator, videos)


def _as_output(videos: UInt8[ndarray, "B T H W 3"], output_type: str) -> Any:
    """Finished videos as diffusers hands them out, or as bytes."""
    if output_type == "uint8":
        return videos
    if output_type == "pil":
        return [[Image.fromarray(frame) for frame in video] for video in videos]
    shares = videos.astype(np.float32) / np.float32(255)
    return shares if output_type == "np" else torch.from_numpy(shares).permute(0, 1, 4, 2, 3).contiguous()
