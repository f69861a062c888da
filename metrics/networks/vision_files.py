"""The files of the networks of 2026: published names, transformers' folders, prefixes, sizes, hashes.

Of their hashes only CLIP's and MUSIQ's first digits were published; other files are held to names and shapes.
"""

import re
from collections.abc import Mapping

from metrics.weights.checkpoint import PUBLISHED, Checkpoint, NameConvention

CLIP_SIZES: Mapping[str, dict[str, int]] = {
    "b32": {"width": 768, "layers": 12, "patch": 32, "features": 512},
    "l14": {"width": 1024, "layers": 24, "patch": 14, "features": 768},
}
VICLIP_SIZE = CLIP_SIZES["l14"]
TEXT_SIZES: Mapping[str, dict[str, int]] = {
    "b32": {"width": 512, "layers": 12, "features": 512, "length": 77},
    "l14": {"width": 768, "layers": 12, "features": 768, "length": 77},
    "viclip": {"width": 768, "layers": 12, "features": 768, "length": 32},
}


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name, hits = re.subn(pattern, replacement, name)
        if hits and pattern.startswith("^"):
            break
    return name


def _dino_of_transformers_4(name: str) -> tuple[str, ...]:
    head, _, ending = name.rpartition(".")
    if name.endswith((".attn.qkv.weight", ".attn.qkv.bias")):
        block = head.split(".")[1]
        return tuple(f"encoder.layer.{block}.attention.attention.{x}.{ending}" for x in ("query", "key", "value"))
    return (_renamed(name, (*DINO_4, *DINO_EMBEDDINGS)),)


def _dino_of_transformers_5(name: str) -> tuple[str, ...]:
    head, _, ending = name.rpartition(".")
    if name.endswith((".attn.qkv.weight", ".attn.qkv.bias")):
        block = head.split(".")[1]
        return tuple(f"layers.{block}.attention.{x}_proj.{ending}" for x in "qkv")
    return (_renamed(name, (*DINO_5, *DINO_EMBEDDINGS)),)


DINO_EMBEDDINGS = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
)
DINO_4 = (
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layer.\1.attention.output.dense."),
    (r"^blocks\.(\d+)\.norm1\.", r"encoder.layer.\1.layernorm_before."),
    (r"^blocks\.(\d+)\.norm2\.", r"encoder.layer.\1.layernorm_after."),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", r"encoder.layer.\1.intermediate.dense."),
    (r"^blocks\.(\d+)\.mlp\.fc2\.", r"encoder.layer.\1.output.dense."),
)
DINO_5 = (
    (r"^blocks\.(\d+)\.attn\.proj\.", r"layers.\1.attention.o_proj."),
    (r"^blocks\.(\d+)\.norm1\.", r"layers.\1.layernorm_before."),
    (r"^blocks\.(\d+)\.norm2\.", r"layers.\1.layernorm_after."),
    (r"^blocks\.(\d+)\.mlp\.", r"layers.\1.mlp."),
)

DINO = Checkpoint(
    "DINO ViT-B/16",
    ("dino_vitbase16_pretrain.pth", "dino_vitb16.safetensors", "vit_base_patch16_224.dino", "dino-vitb16"),
    (
        PUBLISHED,
        NameConvention("transformers 4", _dino_of_transformers_4),
        NameConvention("transformers 5", _dino_of_transformers_5),
    ),
    prefixes=("", "vit.", "model."),
    unused=("pooler.",),
    advice="give dino_vitbase16_pretrain.pth, which holds the backbone alone (the full checkpoint is another file)",
)

CLIP_BLOCKS = (
    (r"\.ln_1\.", ".layer_norm1."),
    (r"\.ln_2\.", ".layer_norm2."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"^transformer\.resblocks\.", "encoder.layers."),
)
CLIP_IMAGE_TABLES = {
    "class_embedding": "vision_model.embeddings.class_embedding",
    "conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "proj": "visual_projection.weight",
    "ln_pre.weight": "vision_model.pre_layrnorm.weight",  # so it is spelled there
    "ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "ln_post.weight": "vision_model.post_layernorm.weight",
    "ln_post.bias": "vision_model.post_layernorm.bias",
}
CLIP_TEXT_TABLES = {
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "text_projection": "text_projection.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}


def _clip_of_transformers(name: str, tower: str, tables: Mapping[str, str]) -> tuple[str, ...]:
    if name in tables:
        return (tables[name],)
    if ".attn.in_proj_" in name:
        block, ending = name.split(".")[2], name.rpartition("_")[2]
        return tuple(f"{tower}.encoder.layers.{block}.self_attn.{x}_proj.{ending}" for x in "qkv")
    return (f"{tower}.{_renamed(name, CLIP_BLOCKS)}",)


IMAGE_NAMINGS = (
    NameConvention("published", lambda name: (f"visual.{name}",)),
    NameConvention(
        "transformers",
        lambda name: _clip_of_transformers(name, "vision_model", CLIP_IMAGE_TABLES),
        transposed=frozenset({"proj"}),
    ),
)
TEXT_NAMINGS = (
    PUBLISHED,
    NameConvention(
        "transformers",
        lambda name: _clip_of_transformers(name, "text_model", CLIP_TEXT_TABLES),
        transposed=frozenset({"text_projection"}),
    ),
)
LOOSE = ("logit_scale", "input_resolution", "context_length", "vocab_size")  # beside the two towers
OF_TEXT = (
    *("positional_embedding", "text_projection", "transformer.", "token_embedding.", "ln_final."),
    *("text_model.", "vision_model.embeddings.position_ids"),
)
OF_IMAGES = ("visual.", "vision_model.", "visual_projection.", "text_model.embeddings.position_ids")
CLIP_FILES = {
    "b32": ("ViT-B-32.pt", "clip-vit-base-patch32"),
    "l14": ("ViT-L-14.pt", "clip-vit-large-patch14"),
}
CLIP_SHA256 = {
    "b32": "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    "l14": "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
}
CLIP_NAMES = {"b32": "CLIP ViT-B/32", "l14": "CLIP ViT-L/14"}
CLIP_IMAGE = {
    size: Checkpoint(name, CLIP_FILES[size], IMAGE_NAMINGS, unused=(*OF_TEXT, *LOOSE), sha256=CLIP_SHA256[size])
    for size, name in CLIP_NAMES.items()
}
CLIP_TEXT = {
    size: Checkpoint(
        f"{name}'s text tower", CLIP_FILES[size], TEXT_NAMINGS, unused=(*OF_IMAGES, *LOOSE), sha256=CLIP_SHA256[size]
    )
    for size, name in CLIP_NAMES.items()
}

VICLIP_FILES = ("ViClip-InternVid-10M-FLT.pth", "ViCLIP-L_InternVid-FLT-10M.pth")
VICLIP_CLIP = Checkpoint(
    "ViCLIP-L/14",
    VICLIP_FILES,
    (NameConvention("published", lambda name: (f"vision_encoder.{name}",)),),
    prefixes=("model.", "", "module."),
    unused=("text_encoder.", "temp"),
)
VICLIP_TEXT = Checkpoint(
    "ViCLIP-L/14's text tower",
    VICLIP_FILES,
    (NameConvention("published", lambda name: (f"text_encoder.{name}",)),),
    prefixes=("model.", "", "module."),
    unused=("vision_encoder.", "temp"),
)

MUSIQ = Checkpoint(
    "MUSIQ-SPAQ",
    ("musiq_spaq_ckpt-358bb6af.pth", "musiq_spaq.safetensors"),
    prefixes=("params.", "", "module."),
    sha256="358bb6af",
    advice="give musiq_spaq_ckpt-358bb6af.pth: KonIQ's and AVA's weights score on other scales",
)
AESTHETIC = Checkpoint(
    "LAION's linear aesthetic head",
    ("sa_0_4_vit_l_14_linear.pth",),
    advice="give sa_0_4_vit_l_14_linear.pth: the improved predictor, an MLP, scores on another scale",
)
VIDEO_MAE = Checkpoint(
    "cd-fvd's VideoMAE-v2 g",
    ("vit_g_hybrid_pt_1200e_ssv2_ft.pth",),
    prefixes=("module.", "model.", ""),
    unused=("head.",),
)
VJEPA = Checkpoint(
    "V-JEPA ViT-H/16",
    ("vith16.pth.tar", "vith16.safetensors"),
    prefixes=("target_encoder.module.backbone.", "target_encoder.backbone.", "module.backbone.", ""),
)
VJEPA_PROBE = Checkpoint(
    "V-JEPA's Something-Something probe",
    ("ssv2-probe.pth.tar", "ssv2-probe.safetensors"),
    (NameConvention("published", lambda name: (f"pooler.{name}",)),),
    prefixes=("classifier.module.", "classifier.", "module.", ""),
    unused=("linear.",),
)
