"""A tiny untrained diffusion model in the released formats: ModelT2V.pth, vae_finetuned/, Stable Diffusion's folder."""

import json
from collections import OrderedDict
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from bench.ucf101.prompts import DESCRIPTIVE, prompt_set
from vidrd.exact_loading import quiet
from vidrd.inflate import unet_settings, vae_settings
from vidrd.models.unet import UNet3DConditionModel
from vidrd.models.vae import AutoencoderKLTemporal
from vidrd.released import convert_released

SIZE = 16  # pixels that the stand-in's U-Net makes
SD_FOLDER, CHECKPOINT, VAE_FOLDER = "stable-diffusion-2-1-base", "ModelT2V.pth", "vae_finetuned"

UNET = {
    "sample_size": SIZE // 2,
    "block_out_channels": (8, 16),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": (1, 2),
    "cross_attention_dim": 16,
    "use_linear_projection": True,
    "norm_num_groups": 4,
}
VAE = {
    "block_out_channels": (8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "layers_per_block": 1,
    "sample_size": SIZE,
    "norm_num_groups": 4,
}
LENGTH = 77  # tokens that the text encoder reads
START, END = "<|startoftext|>", "<|endoftext|>"


def make_model(weights: Path, out: Path) -> Path:
    """Convert what `make_released` wrote to the one folder that a pipeline loads from, by the real files' converter."""
    convert_released(weights / SD_FOLDER, weights / CHECKPOINT, weights / VAE_FOLDER, out, size=SIZE)
    return out


def make_released(folder: Path, *, seed: int = 0) -> dict[str, nn.Module]:
    """Write ModelT2V.pth, vae_finetuned/ and a Stable Diffusion 2.1 folder, tiny; returns the networks inside."""
    sd = folder / SD_FOLDER
    sd.mkdir(parents=True)
    tokens = _write_tokenizer(sd / "tokenizer")
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        UNet2DConditionModel(**UNET).save_pretrained(sd / "unet")
        AutoencoderKL(**VAE).save_pretrained(sd / "vae")
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=tokens, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                max_position_embeddings=LENGTH, bos_token_id=tokens - 2, eos_token_id=tokens - 1,
                pad_token_id=tokens - 1,
            )
        )  # fmt: skip
        text.save_pretrained(sd / "text_encoder")
        DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="epsilon",
            steps_offset=1, set_alpha_to_one=False, clip_sample=False,
        ).save_pretrained(sd / "scheduler")  # fmt: skip
        parts = {"scheduler": "DDIMScheduler", "unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
        index = {
            "_class_name": "StableDiffusionPipeline",
            **{name: ["diffusers", made] for name, made in parts.items()},
        }
        index |= {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
        (sd / "model_index.json").write_text(json.dumps(index, indent=1))
        networks: dict[str, nn.Module] = {
            "unet": UNet3DConditionModel(**unet_settings(json.loads((sd / "unet" / "config.json").read_text()))),
            "vae": AutoencoderKLTemporal(**vae_settings(VAE | {"latent_channels": 4})),
            "text_encoder": text,
        }
        for network in networks.values():
            for weights in network.parameters():  # nowhere zero, so that a layer left out would show
                nn.init.normal_(weights, std=0.1)
    state = OrderedDict({f"unet.{key}": value for key, value in networks["unet"].state_dict().items()})
    state |= {f"text_encoder.text_model.{key}": value for key, value in text.state_dict().items()}
    state["text_encoder.text_model.embeddings.position_ids"] = torch.arange(LENGTH)[None]
    state["clip.logit_scale"] = torch.zeros(())
    torch.save({"state_dict": state, "epoch": 3, "hyper_parameters": {"resolution": SIZE}}, folder / CHECKPOINT)
    (folder / VAE_FOLDER).mkdir()
    config = {"_class_name": "TemporalAutoencoderKL", "add_temp_conv": True, "latent_channels": 4, **VAE}
    (folder / VAE_FOLDER / "config.json").write_text(json.dumps(config))
    torch.save(networks["vae"].state_dict(), folder / VAE_FOLDER / "diffusion_pytorch_model.bin")
    return networks


def _write_tokenizer(folder: Path) -> int:
    """CLIP's byte-pair files with few pairs, learnt from our own prompts; returns the number of tokens."""
    core = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(False)])
    trainer = trainers.BpeTrainer(vocab_size=1024, end_of_word_suffix="</w>", show_progress=False)
    core.train_from_iterator([prompt.text for prompt in prompt_set(DESCRIPTIVE).prompts], trainer)
    learnt = json.loads(core.to_str())["model"]["merges"]
    merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in learnt]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(a + b for a, b in merges), START, END]
    folder.mkdir(parents=True)
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(words))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    pairs = "".join(f"{a} {b}\n" for a, b in merges)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{pairs}", encoding="utf-8")
    about = {"model_max_length": LENGTH, "tokenizer_class": "CLIPTokenizer", "pad_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    return len(vocabulary)
