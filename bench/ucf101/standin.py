"""Small things in the place of large ones: an archive in UCF-101's layout, and weights in every official file's format.

All the code that will meet the real files meets these. The videos are pocket scenes and the weights are random, so
scores made with them mean nothing.
"""

import json
from collections import OrderedDict
from collections.abc import Collection, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from jaxtyping import UInt8
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from bench.ucf101.archive import LISTS, VIDEOS
from bench.ucf101.classes import GROUPS, Class, classes, file_name, list_files
from bench.ucf101.prompts import DESCRIPTIVE, prompt_set
from bench.ucf101.weight_files import state_dict, write_checkpoint, write_npz, write_program
from metrics.networks.c3d import MEAN_FILE, MEAN_SHAPE, c3d_shapes
from metrics.networks.i3d import i3d_shapes
from vidrd.checkpoints import quiet
from vidrd.inflate import unet_settings, vae_settings
from vidrd.models.unet import UNet3DConditionModel
from vidrd.models.vae import AutoencoderKLTemporal
from vidrd.pocket.world import ACTIONS, COLOURS, TEST_SEEDS, draw_scene, render
from vidrd.released import convert_released

SIZE = 16  # pixels that the stand-in's U-Net makes
SD_FOLDER, CHECKPOINT, VAE_FOLDER = "stable-diffusion-2-1-base", "ModelT2V.pth", "vae_finetuned"
# Files of weights for the metrics -> the network whose tensors they hold.
METRIC_FILES = {
    "i3d_torchscript.pt": "i3d",
    "i3d_pretrained_400.pt": "i3d",
    "rgb_scratch/model.ckpt.index": "i3d",
    "conv3d_deepnetA_ucf.npz": "c3d",
    MEAN_FILE: "mean",
}

NTSC = Fraction(30000, 1001)
GROUP_ORDER = (1, 22, 8, 15)  # first a test group of split 1, then one that always trains, then those of splits 2 and 3
SCALE = 4  # a rendered pixel becomes a square of so many
FRAMES = range(29, 42, 3)  # UCF-101's shortest video has 29

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


def make_archive(
    folder: Path,
    per_class: int = 2,  # videos; the first is in the test half of split 1, the second trains in all splits
    *,
    among: Collection[str] | None = None,  # names of the classes to make; None = all 101
    frames: Sequence[int] = FRAMES,  # lengths, which the videos take in turn
    height: int = 240,
    width: int = 320,
) -> Path:
    """Write UCF-101/ and ucfTrainTestlist/ into a folder: pocket scenes under the archive's names; returns the folder.

    Every class has its own action and colour. As in the archive, some videos have B-frames and some 29.97 frames a
    second, the lists end their lines in CR LF, and HandstandPushups' files are spelled otherwise than their folder.

    Raises:
        ValueError: an unknown class, no videos, or more than 28 a class; or a size that is no multiple of 4.
    """
    known = {each.name for each in classes()}
    strange = sorted(set(among or ()) - known)
    if strange:
        raise ValueError(f"{strange[0]} is no class of UCF-101")
    if not 1 <= per_class <= 4 * 7 or height % SCALE or width % SCALE or not frames:
        raise ValueError(
            f"a stand-in takes 1 to 28 videos a class, of sides that are multiples of {SCALE}: {per_class} videos of "
            f"{height} x {width} came"
        )
    chosen = [each for each in classes() if among is None or each.name in among]
    table = tuple(Class(i, each.name, each.stem, _group_counts(per_class)) for i, each in enumerate(chosen))
    lists = folder / LISTS
    lists.mkdir(parents=True)
    for name, content in list_files(table).items():
        (lists / name).write_bytes(content)
    number = 0
    for each, kind in zip(table, chosen, strict=True):
        (folder / VIDEOS / each.name).mkdir(parents=True)
        for group, clips in enumerate(each.clips, 1):
            for clip in range(1, clips + 1):
                video = _scene(kind.index, number, frames[number % len(frames)], height, width)
                b_frames = 2 if number % 6 == 1 else 0
                rate = NTSC if number % 6 == 3 else Fraction(25)
                write_avi(folder / VIDEOS / file_name(each, group, clip), video, rate=rate, b_frames=b_frames)
                number += 1
    return folder


def _group_counts(per_class: int) -> tuple[int, ...]:
    """Videos of each of the 25 groups: one by one to the groups of `GROUP_ORDER`."""
    counts = [0] * GROUPS
    for i in range(per_class):
        counts[GROUP_ORDER[i % len(GROUP_ORDER)] - 1] += 1
    return tuple(counts)


def _scene(index: int, number: int, frames: int, height: int, width: int) -> UInt8[np.ndarray, "T H W 3"]:
    """A video whose action and colour no other class has (8 x 14 pairs for 101 classes)."""
    action, colour = ACTIONS[index % len(ACTIONS)], COLOURS[index // len(ACTIONS)]
    side = max(height, width) // SCALE
    (video,) = render([draw_scene(TEST_SEEDS[number], action=action, colour=colour)], frames, size=side)
    top, left = (side - height // SCALE) // 2, (side - width // SCALE) // 2
    cut = video[:, top : top + height // SCALE, left : left + width // SCALE]
    return np.ascontiguousarray(cut.repeat(SCALE, axis=1).repeat(SCALE, axis=2))


def write_avi(
    path: Path, video: UInt8[np.ndarray, "T H W 3"], *, rate: Fraction = Fraction(25), b_frames: int = 2
) -> None:
    """As UCF-101 is stored: XVID in an .avi, which keeps no time stamps."""
    with av.open(str(path.absolute()), "w", format="avi") as container:
        options = {"bf": str(b_frames), "g": "250", "qmin": "2", "qmax": "4"}
        stream = container.add_stream("mpeg4", rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = *video.shape[1:3], "yuv420p"
        stream.codec_context.codec_tag = "XVID"
        for picture in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def make_weights(folder: Path, *, only: Collection[str] = tuple(METRIC_FILES), seed: int = 0, thin: int = 1) -> Path:
    """Write every file that the full run needs, as `python -m bench weights` lists them; returns the folder.

    The diffusion model is tiny. I3D and C3D have a `thin`-th of the published channels, which their loaders take where
    they are told: at 1, 50 MB a file of I3D and 314 MB of C3D. `only` names those of `METRIC_FILES` that are wanted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    make_released(folder, seed=seed)
    make_metric_weights(folder, only=only, seed=seed, thin=thin)
    return folder


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


def make_metric_weights(
    folder: Path, *, only: Collection[str] = tuple(METRIC_FILES), seed: int = 0, thin: int = 1
) -> None:
    """Write random weights of I3D, C3D and C3D's mean clip; every file of one network holds the same tensors.

    Raises:
        ValueError: a name that is none of `METRIC_FILES`.
    """
    strange = sorted(set(only) - METRIC_FILES.keys())
    if strange:
        raise ValueError(f"{strange[0]} is none of the metrics' files: {', '.join(METRIC_FILES)}")
    draw = np.random.default_rng(seed)
    kinds = {METRIC_FILES[name] for name in only}
    i3d = {name: _weights(name, shape, draw) for name, shape in i3d_shapes(thin).items()} if "i3d" in kinds else {}
    c3d = {name: _weights(name, shape, draw) for name, shape in c3d_shapes(thin).items()} if "c3d" in kinds else {}
    for name in only:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        match name:
            case "i3d_torchscript.pt":
                write_program(path, i3d)
            case "i3d_pretrained_400.pt":
                torch.save(state_dict(i3d), path)
            case "rgb_scratch/model.ckpt.index":
                write_checkpoint(path.with_suffix(""), i3d)
            case "conv3d_deepnetA_ucf.npz":
                write_npz(path, c3d)
            case _:
                np.savez(path, mean=(80 + 40 * draw.random(MEAN_SHAPE)).astype(np.float32))


def _weights(name: str, shape: tuple[int, ...], draw: np.random.Generator) -> Tensor:
    """He's initialisation; norms are the identity, since TensorFlow's file has no scale to store."""
    if name.endswith(("bn.weight", "running_var")):
        return torch.ones(shape)
    if len(shape) == 1:
        return torch.zeros(shape)
    scale = np.float32((2 / np.prod(shape[1:])) ** 0.5)
    return torch.from_numpy(draw.standard_normal(shape, dtype=np.float32) * scale)
