"""Prompts: read from a file, made into CLIP's tokens, embedded; a text that is cut is counted, never cut in silence."""

import gzip
import hashlib
import html
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor

from metrics.files import read_text
from metrics.networks.clip import VOCABULARY, TextTower

Prompt = str | tuple[int, ...]  # a text, or the ids of its tokens from begin to end
BEGIN, END = VOCABULARY - 2, VOCABULARY - 1
MERGES = "bpe_simple_vocab_16e6.txt.gz"  # OpenAI's table
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def read_prompts(path: Path | str) -> dict[str, Prompt]:
    """The prompt of each video: JSON {name: text or list of token ids}, or lines of a name, a tab and a text.

    Raises:
        ValueError: no such file, another content, or a video that is named twice.
    """
    path = Path(path)
    try:
        text = read_text(path)
        if path.suffix == ".json":
            prompts = json.loads(text, object_pairs_hook=_once)
            if not isinstance(prompts, dict):
                raise ValueError(f"it holds a {type(prompts).__name__}, an object {{name: prompt}} is wanted")
            return {name: _prompt(name, value) for name, value in prompts.items()}
        lines = [line for line in text.splitlines() if line.strip()]
        if bad := [line for line in lines if "\t" not in line]:
            raise ValueError(f"a line is a name, a tab and a prompt: got {bad[0][:60]!r}")
        return _once([(name, prompt) for name, _, prompt in (line.partition("\t") for line in lines)])
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as prompts: {error}") from error


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    prompts = dict(pairs)
    if len(prompts) < len(pairs):
        name, count = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"a video has one prompt: got {count} of {name}, choose one")
    return prompts


def _prompt(name: str, value: object) -> Prompt:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(x, int) and 0 <= x < VOCABULARY for x in value):
        return tuple(value)
    raise ValueError(f"the prompt of {name} is a text or a list of token ids below {VOCABULARY}: got {value!r:.60}")


def prompt_of_name(name: str) -> str:
    """VBench's rule for videos without a file of prompts: the file's name less its ending and its -N."""
    return re.sub(r"-\d+$", "", Path(name).stem)


def hash_prompts(prompts: Mapping[str, Prompt]) -> str:
    """sha256 of names and prompts, in the order of names."""
    return hashlib.sha256(json.dumps(sorted(prompts.items()), ensure_ascii=False).encode()).hexdigest()


@dataclass(frozen=True)
class ClipTokenizer:
    """CLIP's byte-pair encoding, without the repair of broken encodings that OpenAI's code leaves to ftfy."""

    core: Tokenizer

    def ids(self, text: str) -> list[int]:
        """Tokens with the marks of begin and end."""
        return [BEGIN, *self.core.encode(" ".join(html.unescape(html.unescape(text)).split())).ids, END]


def find_tokenizer(folder: Path | str | None) -> ClipTokenizer | None:
    """CLIP's tokenizer from OpenAI's table of merges in or below a folder, or from transformers' merges.txt; or None.

    Raises:
        ValueError: a table that cannot be read.
    """
    if folder is None or not Path(folder).is_dir():
        return None
    for name in (MERGES, "merges.txt"):
        for path in sorted(Path(folder).rglob(name)):
            return read_tokenizer(path)
    return None


def read_tokenizer(path: Path) -> ClipTokenizer:
    """CLIP's tokenizer from its table of merges: the vocabulary follows from it.

    Raises:
        ValueError: the table cannot be read.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = content.decode("utf-8").splitlines()[1:]
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a table of merges: {error}") from error
    merges = [(pair[0], pair[1]) for line in lines if len(pair := line.split()) == 2][: VOCABULARY - 512 - 2]
    letters = _letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    vocabulary = {word: number for number, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    core.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    return ClipTokenizer(core)


def _letters() -> list[str]:
    """A character for every byte, printable ones first, as GPT-2 orders them."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [*map(chr, printable), *(chr(256 + i) for i in range(len(others)))]


def token_rows(prompts: Sequence[Prompt], tokenizer: ClipTokenizer | None, length: int) -> Int64[Tensor, "N L"]:
    """Rows of ids, padded by zeros; longer texts keep their first tokens and the mark of the end.

    Raises:
        ValueError: a text without a tokenizer.
    """
    rows = torch.zeros(len(prompts), length, dtype=torch.long)
    for row, prompt in zip(rows, prompts, strict=True):
        ids = _ids(prompt, tokenizer)
        ids = ids if len(ids) <= length else [*ids[: length - 1], END]
        row[: len(ids)] = torch.tensor(ids)
    return rows


def count_cut(prompts: Sequence[Prompt], tokenizer: ClipTokenizer | None, length: int) -> int:
    """How many prompts are longer than a tower reads."""
    return sum(len(_ids(prompt, tokenizer)) > length for prompt in prompts)


def _ids(prompt: Prompt, tokenizer: ClipTokenizer | None) -> list[int]:
    if not isinstance(prompt, str):
        return list(prompt)
    if tokenizer is None:
        raise ValueError(
            f"prompts become tokens by OpenAI's table of merges: put {MERGES} into the folder of weights, or give ids"
        )
    return tokenizer.ids(prompt)


@torch.inference_mode()
def embed_prompts(
    prompts: Mapping[str, Prompt], tower: TextTower, tokenizer: ClipTokenizer | None
) -> dict[str, Float32[np.ndarray, " F"]]:
    """The text feature of every prompt by the name of its video; equal prompts are embedded once.

    Raises:
        ValueError: as `token_rows`.
    """
    distinct = list(dict.fromkeys(prompts.values()))
    rows = [tower(token_rows([prompt], tokenizer, tower.length))[0].numpy() for prompt in distinct]
    features = dict(zip(distinct, rows, strict=True))
    return {name: features[prompt] for name, prompt in prompts.items()}
