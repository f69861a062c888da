"""A cache of a data set's latents, so that training need not decode and encode the same clips again.

Frames are cropped and reduced as training would, encoded to the means of their distributions, and kept in half
precision in safetensors files, one a shard. The cache belongs to one VAE, one size and one data set, and says which.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from vidrd.data.shards import INDEX, ShardSet
from vidrd.exact_loading import parse_json, read_once
from vidrd.files import locked, replacing, write_atomic
from vidrd.models.blocks import frames_of
from vidrd.models.vae import AutoencoderKLTemporal
from vidrd.video import square

META = "latents.json"


def vae_name(vae: AutoencoderKLTemporal) -> str:
    """A hash of the encoder's weights, the same wherever they are."""
    whole = hashlib.sha256()
    for key, value in sorted(vae.state_dict().items()):
        if key.startswith(("encoder.", "quant_conv.")):
            whole.update(key.encode() + value.float().cpu().numpy().tobytes())
    return whole.hexdigest()


@torch.no_grad()
def cache_latents(
    data: Path,  # folder of a data set
    vae: AutoencoderKLTemporal,
    out: Path,
    *,
    size: int,  # pixels
    chunk: int = 64,  # frames encoded at once
    say: Callable[[str], None] = print,
) -> None:
    """Write the cache, or its missing files.

    Raises:
        ValueError: `out` holds the cache of another VAE, size or data set, or another run is writing into it.
    """
    shards = ShardSet(data)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        index = hashlib.sha256((data / INDEX).read_bytes()).hexdigest()
        meta = {
            "vae": vae_name(vae),
            "size": size,
            "crop": "middle square",
            "data": str(data.resolve()),
            "index": index,
        }
        path = out / META
        if path.exists() and parse_json(read_once(path), path) != meta:
            raise ValueError(
                f"{out} holds latents of another VAE, size or data set (see its {META}): name a new folder"
            )
        write_atomic(path, json.dumps(meta, indent=1) + "\n")
        by_shard: dict[str, list[int]] = {}
        for row, shard in enumerate(shards.columns("shard")[0]):
            by_shard.setdefault(shard, []).append(row)
        for shard, rows in by_shard.items():
            target = out / f"{Path(shard).stem}.safetensors"
            if target.exists():
                continue
            tensors = {}
            for row in rows:
                frames = frames_of(square(shards.read(row), size)[None])
                parts = [vae.encode(part.to(vae.device)).latent_dist.mode() for part in frames.split(chunk)]
                tensors[shards.row(row)["key"]] = torch.cat(parts).half().cpu().contiguous()
            with replacing(target, sole_writer=True) as part:
                save_file(tensors, part)
            say(f"{target.name}: {len(rows)} clips")


class LatentSet:
    """Latents of a data set, with its captions, as a ClipSet."""

    def __init__(self, folder: Path):
        if not (folder / META).is_file():
            raise ValueError(f"{folder} holds no latents: it has no {META}; make them with `python -m vidrd latents`")
        self.folder = folder
        self.meta: dict[str, Any] = parse_json(read_once(folder / META), folder / META)
        if missing := {"data", "index", "vae", "size"} - self.meta.keys():
            raise ValueError(f"{folder / META} lacks {', '.join(sorted(missing))}: make the latents again")
        self.shards = ShardSet(Path(str(self.meta["data"])))
        index = hashlib.sha256((self.shards.folder / INDEX).read_bytes()).hexdigest()
        if index != self.meta["index"]:
            raise ValueError(f"{self.shards.folder} has changed since its latents were made: make them again")
        self.frames: ndarray = np.asarray(self.shards.frames)
        self._open: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**{k: v for k, v in self.__dict__.items() if k != "_where"}, "_open": {}}

    @cached_property
    def _where(self) -> list[tuple[str, str]]:
        table = self.shards.columns("shard", "key")
        return [(Path(shard).stem, key) for shard, key in zip(*table, strict=True)]

    def captions(self, row: int) -> Sequence[str]:
        """The row's captions."""
        return self.shards.captions(row)

    def origins(self) -> Sequence[str]:
        """The source file of each row."""
        return self.shards.columns("uri")[0]

    def clip(self, row: int, indices: Sequence[int], view: object = None) -> Float[Tensor, "C T H W"]:
        """Unscaled latents of some frames; of the middle square, whatever the view."""
        stem, key = self._where[row]
        if stem not in self._open:
            self._open[stem] = safe_open(self.folder / f"{stem}.safetensors", framework="pt")
        held = self._open[stem].get_slice(key)
        some = held[min(indices) : max(indices) + 1]
        return some[[index - min(indices) for index in indices]].float().transpose(0, 1).contiguous()

    def check(self, vae: AutoencoderKLTemporal, size: int) -> None:
        """Check that the latents are this VAE's.

        Raises:
            ValueError: they are not.
        """
        if self.meta["vae"] != vae_name(vae):
            raise ValueError(f"{self.folder} holds the latents of another VAE: make them again with this one")
        if self.meta["size"] != size:
            raise ValueError(f"{self.folder} holds latents of {self.meta['size']} pixels, training asks for {size}")
