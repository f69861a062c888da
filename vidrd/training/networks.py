"""Which networks and layers of a pipeline a stage trains, and the pipeline that results."""

from collections.abc import Callable, Iterable

import torch
from diffusers import DDIMScheduler
from torch import nn

from vidrd.models.unet import is_temporal
from vidrd.pipeline import VidRDPipeline
from vidrd.training.losses import Discriminator
from vidrd.training.settings import Layers, Settings
from vidrd.training.stages import learns_from_video, trainable

ATTENTIONS = {"attention": ("attn1", "attn2"), "temporal": ("temp_attn",)}  # by what is learned
PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")


def prepare_networks(settings: Settings, pipeline: VidRDPipeline) -> dict[str, nn.Module]:
    """Set a pipeline up for a stage, in place, and choose what is trained; the networks that hold such parameters.

    Raises:
        ValueError: the pipeline does not suit the settings, or low-rank updates need a package that is not installed.
    """
    unet, vae, text = pipeline.unet, pipeline.vae, pipeline.text_encoder
    if settings.stage == "vae-decoder":
        whole = "decoder" in settings.learned
        trainable(vae, lambda key: is_temporal(key) or (whole and key.startswith(("decoder.", "post_quant_conv."))))
        if settings.checkpointing:
            vae.enable_gradient_checkpointing()
        if not settings.adversarial:
            return {"vae": vae}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            return {"vae": vae, "discriminator": Discriminator()}
    pipeline.register_modules(
        scheduler=training_schedule(pipeline.scheduler, zero_terminal_snr=settings.zero_terminal_snr)
    )
    pipeline.register_to_config(clip=settings.frames if settings.stage == "temporal" else pipeline.config.clip)
    unet.register_to_config(sample_size=settings.size // vae.downscale)
    trainable(vae, lambda key: False)
    trainable(text, lambda key: "text" in settings.learned)
    if settings.lora:
        add_low_rank(unet, settings.lora, settings.learned, settings.seed)
    else:
        trainable(unet, chooser(settings.learned))
    if settings.checkpointing:
        unet.enable_gradient_checkpointing()
    return {"unet": unet} | ({"text_encoder": text} if "text" in settings.learned else {})


def chooser(learned: Iterable[Layers]) -> Callable[[str], bool]:
    """Which of the U-Net's parameters are trained, by key."""
    chosen = set(learned)

    def choose(key: str) -> bool:
        kind = "temporal" if is_temporal(key) else "attention" if learns_from_video(key) else "spatial"
        return kind in chosen

    return choose


def training_schedule(scheduler: DDIMScheduler, *, zero_terminal_snr: bool) -> DDIMScheduler:
    """The scheduler that the pipeline is trained for and is to sample with.

    Raises:
        ValueError: the network predicts neither noise nor v, or zero terminal SNR is asked of one that predicts noise,
            which says nothing of pure noise.
    """
    if scheduler.config.prediction_type not in ("epsilon", "v_prediction"):
        raise ValueError(
            f"networks are trained to predict epsilon or v_prediction: got {scheduler.config.prediction_type!r} in the "
            "scheduler's configuration, start from another pipeline"
        )
    if not zero_terminal_snr or scheduler.config.rescale_betas_zero_snr:
        return scheduler
    if scheduler.config.prediction_type != "v_prediction":
        raise ValueError(
            f"zero terminal SNR needs a network that predicts v, this one predicts {scheduler.config.prediction_type}: "
            "leave it off, or start from Stable Diffusion 2.1 at 768 pixels"
        )
    changes = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return DDIMScheduler.from_config(scheduler.config, **changes)


def add_low_rank(unet: nn.Module, rank: int, learned: Iterable[Layers], seed: int) -> None:
    """Give a U-Net's attentions low-rank updates, in place, and freeze all else.

    Source: Hu et al. 2021, arXiv 2106.09685; an update starts at zero and counts in full (alpha is the rank).

    Raises:
        ValueError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ValueError("--lora needs peft: pip install 'vidrd-bench[lora]'") from error
    kinds = [name for kind in learned for name in ATTENTIONS[kind]]
    places = tuple(f".{kind}.{projection}" for kind in kinds for projection in PROJECTIONS)
    targets = [name for name, _ in unet.named_modules() if name.endswith(places)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets), unet)
    trainable(unet, lambda key: ".lora_" in key)


def finish_networks(settings: Settings, pipeline: VidRDPipeline) -> None:
    """Leave a pipeline, in place, as it is stored and loaded: low-rank updates become part of the weights."""
    if not settings.lora:
        return
    from peft.tuners.lora import LoraLayer  # noqa: PLC0415 - an extra

    for name, module in list(pipeline.unet.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            pipeline.unet.set_submodule(name, module.get_base_layer())
