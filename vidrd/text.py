"""Prompts to embeddings; words that the tokenizer cannot read, or has no room for, are reported and left out."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

SPECIAL = ("<pad>", "<start>", "<end>", "<unknown>")


def word_tokenizer(words: Sequence[str], length: int) -> PreTrainedTokenizerFast:
    """A tokenizer of whole lower-case words, for text encoders trained on a small vocabulary."""
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *words])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[(token, vocabulary[token]) for token in ("<start>", "<end>")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=length,
        pad_token="<pad>",
        bos_token="<start>",
        eos_token="<end>",
        unk_token="<unknown>",
    )


def small_text_encoder(tokenizer: PreTrainedTokenizerFast, width: int, layers: int, heads: int) -> CLIPTextModel:
    """An untrained CLIP text encoder for a tokenizer."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=tokenizer.model_max_length,
            projection_dim=width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def encode(
    prompts: Sequence[str], tokenizer: Any, text_encoder: Any, device: torch.device | str = "cpu"
) -> Float[Tensor, "B L D"]:
    """Embed prompts, padded or cut to the tokenizer's length; no attention mask, as in Stable Diffusion."""
    ids = tokenizer(
        list(prompts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
    return text_encoder(ids.to(device))[0]


def readable(prompt: str, tokenizer: Any) -> str:
    """A prompt without words that the tokenizer does not know (a byte-pair tokenizer knows them all).

    These are named in a warning, and so is what lies beyond its length, which the tokenizer itself cuts off, even in
    the middle of a word. Punctuation that it does not know goes without a word: it names nothing.
    """
    prompt = _known_words(prompt, tokenizer)
    room = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
    ids = tokenizer(prompt, add_special_tokens=False).input_ids
    if len(ids) > room:
        logger.warning(
            "prompt %.80r: the text encoder reads %d tokens; left out from there: %.80r",
            prompt,
            room,
            tokenizer.decode(ids[room:]),
        )
    return prompt


def _words(prompt: str, tokenizer: Any) -> list[str]:
    core = tokenizer.backend_tokenizer
    text = core.normalizer.normalize_str(prompt) if core.normalizer else prompt
    return [word for word, _ in core.pre_tokenizer.pre_tokenize_str(text)]


def _known_words(prompt: str, tokenizer: Any) -> str:
    """The words of a prompt that a tokenizer of whole words knows; for any other tokenizer, the prompt."""
    if getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None).__class__.__name__ != "WordLevel":
        return prompt
    known, words = tokenizer.get_vocab(), _words(prompt, tokenizer)
    unknown = [word for word in dict.fromkeys(words) if word not in known]
    named = ", ".join(repr(word) for word in unknown if any(map(str.isalnum, word)))
    if named:
        logger.warning("prompt %.80r: the text encoder does not know %.160s; left out", prompt, named)
    return " ".join(word for word in words if word in known) if unknown else prompt


@torch.no_grad()
def embed(
    prompts: Sequence[str], tokenizer: Any, text_encoder: Any, device: torch.device | str = "cpu"
) -> Float[Tensor, "B L D"]:
    """Embed prompts as far as they can be read."""
    return encode([readable(prompt, tokenizer) for prompt in prompts], tokenizer, text_encoder, device)
