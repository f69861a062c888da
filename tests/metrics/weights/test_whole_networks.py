"""Every loader takes a network whole or refuses the file in one line: no tensor is left as it was, none is ignored."""

import json
from functools import partial

import pytest
import torch
from torch import nn

from metrics.networks import vision, vit
from metrics.networks import vision_files as files
from metrics.networks.c3d import c3d_shapes, load_c3d
from metrics.networks.clip import ClipTower, ImageTower, TextTower
from metrics.networks.i3d import i3d_shapes, load_i3d
from metrics.networks.musiq import Musiq
from metrics.networks.vision import shapes_of
from metrics.temporal.raft import load_raft
from metrics.weights import WeightsError

WRAPPED = ("i3d", "c3d")  # whose files may have any one prefix before all names
SIZE = {"F32": 4, "I64": 8, "U8": 1, "C64": 8}


def named(checkpoint, build):
    """Shapes by the names of the first convention and prefix."""
    naming, prefix = checkpoint.namings[0], checkpoint.prefixes[0]
    return {prefix + naming.theirs(name)[0]: shape for name, shape in shapes_of(build).items()}


def raft_shapes():
    from torchvision.models.optical_flow import raft_large

    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in raft_large(weights=None).state_dict().items()}


def probe(path):
    return vision.load_network(path, files.VJEPA_PROBE, vit.Pooler)


TEXT = {size: partial(TextTower, **known) for size, known in files.TEXT_SIZES.items()}
IMAGE = {size: partial(ImageTower, **known) for size, known in files.CLIP_SIZES.items()}
CLIP = partial(ClipTower, **files.VICLIP_SIZE)
LOADERS = {  # name -> loader, and the shapes of a file that it takes
    "dino": (vision.load_dino, lambda: named(files.DINO, vit.Dino)),
    "clip-b32": (vision.load_clip, lambda: named(files.CLIP_IMAGE["b32"], IMAGE["b32"])),
    "clip-l14": (partial(vision.load_clip, size="l14"), lambda: named(files.CLIP_IMAGE["l14"], IMAGE["l14"])),
    "clip-b32-text": (vision.load_clip_text, lambda: named(files.CLIP_TEXT["b32"], TEXT["b32"])),
    "viclip": (vision.load_viclip, lambda: named(files.VICLIP_CLIP, CLIP)),
    "viclip-text": (vision.load_viclip_text, lambda: named(files.VICLIP_TEXT, TEXT["viclip"])),
    "musiq": (vision.load_musiq, lambda: named(files.MUSIQ, Musiq)),
    "aesthetic": (
        lambda path: vision.load_network(path, files.AESTHETIC, partial(nn.Linear, 768, 1)),
        lambda: named(files.AESTHETIC, partial(nn.Linear, 768, 1)),
    ),
    "video-mae": (vision.load_video_mae, lambda: named(files.VIDEO_MAE, vit.VideoMae)),
    "v-jepa": (partial(vision.load_vjepa, probe=None), lambda: named(files.VJEPA, vit.VJepa)),
    "v-jepa-probe": (probe, lambda: named(files.VJEPA_PROBE, vit.Pooler)),
    "raft": (load_raft, raft_shapes),
    "i3d": (partial(load_i3d, thin=16), lambda: i3d_shapes(16)),
    "c3d": (partial(load_c3d, thin=16), lambda: c3d_shapes(16)),
}


def write_zeros(path, shapes, dtypes):
    """A safetensors file of zeros that takes no room on the disk."""
    header, end = {}, 0
    for name, shape in shapes.items():
        dtype = dtypes.get(name, "I64" if name.endswith("num_batches_tracked") else "F32")
        begin, end = end, end + SIZE[dtype] * int(torch.Size(shape).numel())
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def first(shapes):
    """A tensor that is read early."""
    return min(name for name in shapes if not name.endswith("num_batches_tracked"))


FAULTS = {
    "missing": lambda shapes: ({n: s for n, s in shapes.items() if n != first(shapes)}, {}),
    "extra": lambda shapes: ({**shapes, f"{first(shapes)}_more": (3,)}, {}),
    "shape": lambda shapes: ({**shapes, first(shapes): (*shapes[first(shapes)], 2)}, {}),
    "whole numbers": lambda shapes: (shapes, {first(shapes): "I64"}),
    "bytes": lambda shapes: (shapes, {first(shapes): "U8"}),
    "renamed prefix": lambda shapes: ({f"other.{name}": shape for name, shape in shapes.items()}, {}),
    "one renamed": lambda shapes: ({("x" if n == first(shapes) else "") + n: s for n, s in shapes.items()}, {}),
}


@pytest.mark.parametrize("name", LOADERS)
def test_no_network_is_partly_loaded(tmp_path, name):
    load, describe = LOADERS[name]
    shapes = describe()
    path = tmp_path / "weights.safetensors"
    for fault, change in FAULTS.items():
        if fault == "renamed prefix" and name in WRAPPED:
            continue
        write_zeros(path, *change(shapes))
        with pytest.raises(ValueError, match=r".") as error:
            load(path)
        assert str(path) in str(error.value), fault
        assert "\n" not in str(error.value), fault


@pytest.mark.parametrize("name", LOADERS)
def test_what_is_no_file_of_weights_is_refused(tmp_path, name):
    load, describe = LOADERS[name]
    shapes = describe()
    whole = tmp_path / "whole.safetensors"
    write_zeros(whole, shapes, {})
    with whole.open("r+b") as file:
        file.truncate(whole.stat().st_size - 5)
    page = tmp_path / "weights.pth"
    page.write_bytes(b"\xef\xbb\xbf\n<!DOCTYPE html><html><body>Sign in</body></html>")
    other = tmp_path / "other.pth"
    other.write_bytes(b"<html></html>")
    for path, message in ((whole, "no whole safetensors file"), (page, "web page"), (other, "web page")):
        with pytest.raises(WeightsError, match=message) as error:
            load(path)
        assert "\n" not in str(error.value)
