"""Tiny random text encoders with a tokenizer of whole words, made offline from their configurations."""

from typing import Any, Literal

from transformers import (
    CLIPTextModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from vidrd.text import small_text_encoder, word_tokenizer

WIDTH = 32
WORDS = ("a", "the", "red", "blue", "cat", "dog", "ball", "runs", "rolls", "left", "right", "blurry")


def words(length: int = 512) -> PreTrainedTokenizerFast:
    """A tokenizer of a dozen words."""
    return word_tokenizer(WORDS, length)


def t5(tokenizer: PreTrainedTokenizerFast, kind: Literal["t5", "umt5"] = "t5", width: int = WIDTH) -> Any:
    """An encoder of T5's kind, of that width."""
    config, encoder = (UMT5Config, UMT5EncoderModel) if kind == "umt5" else (T5Config, T5EncoderModel)
    return encoder(
        config(
            vocab_size=len(tokenizer),
            d_model=width,
            d_kv=8,
            d_ff=37,
            num_layers=2,
            num_heads=4,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    ).eval()


def llama(tokenizer: PreTrainedTokenizerFast) -> LlamaModel:
    """A decoder of Llama's kind, `WIDTH` wide."""
    return LlamaModel(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=37,
            num_hidden_layers=4,
            num_attention_heads=4,
            pad_token_id=tokenizer.pad_token_id,
        )
    ).eval()


def clip_text(tokenizer: PreTrainedTokenizerFast) -> CLIPTextModel:
    """CLIP's text encoder, `WIDTH` wide."""
    return small_text_encoder(tokenizer, WIDTH, layers=2, heads=4).eval()
