"""Tiny random chat models that see, in folders as transformers publishes Qwen2.5-VL and SmolVLM2."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

TEXT = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
TURNS = """{% for m in messages %}<|im_start|>{{ m['role'] }}
{% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}{% endfor %}END
{% endfor %}<|im_start|>assistant
"""


def byte_tokenizer(special, **roles):
    """A token for each byte, and the special ones."""
    alphabet = {character: number for number, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<|endoftext|>", additional_special_tokens=special, **roles
    )


def make_qwen2_5_vl(folder):
    """Qwen2.5-VL: patches of 14 pixels, four of which are a token; pictures keep their size."""
    torch.manual_seed(0)
    marks = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    tokens = byte_tokenizer(["<|endoftext|>", "<|im_start|>", "<|im_end|>", *marks], eos_token="<|im_end|>")
    image, video, start, end = tokens.convert_tokens_to_ids(list(marks))
    turns = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    config = Qwen2_5_VLConfig(
        text_config={"vocab_size": len(tokens), "rope_parameters": turns, **TEXT, **_ends(tokens)},
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
        },
        image_token_id=image, video_token_id=video, vision_start_token_id=start, vision_end_token_id=end,
    )  # fmt: skip
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    template = TURNS.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>").replace("END", "<|im_end|>")
    images = Qwen2VLImageProcessor(size={"shortest_edge": 56**2, "longest_edge": 112**2})
    Qwen2_5_VLProcessor(images, tokens, Qwen2VLVideoProcessor(), chat_template=template).save_pretrained(folder)


def make_smolvlm2(folder):
    """SmolVLM2: a picture in tiles and once whole; its folder has a video processor, too."""
    torch.manual_seed(0)
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    marks = {
        "image_token": "<image>", "fake_image_token": "<fake_token_around_image>", "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
    }  # fmt: skip
    tokens = byte_tokenizer(
        ["<|endoftext|>", "<|im_start|>", *marks.values(), *tiles],
        eos_token="<end_of_utterance>", extra_special_tokens=marks,
    )  # fmt: skip
    config = SmolVLMConfig(
        image_token_id=tokens.convert_tokens_to_ids("<image>"), pad_token_id=tokens.pad_token_id,
        vision_config={
            "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 32, "patch_size": 8,
        },
        text_config={"model_type": "llama", "vocab_size": len(tokens), **TEXT, **_ends(tokens)},
    )  # fmt: skip
    SmolVLMForConditionalGeneration(config).save_pretrained(folder)
    sizes = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
    template = TURNS.replace("IMAGE", "<image>").replace("END", "<end_of_utterance>")
    SmolVLMProcessor(
        SmolVLMImageProcessor(**sizes), tokens, SmolVLMVideoProcessor(**sizes), image_seq_len=4, chat_template=template
    ).save_pretrained(folder)


def _ends(tokens):
    return {"bos_token_id": None, "eos_token_id": tokens.eos_token_id, "pad_token_id": tokens.pad_token_id}
