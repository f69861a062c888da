"""Conversions of videos between the networks' tensors, arrays at rest, and files.

Networks speak B C T H W floats in [-1, 1]; everything at rest is T H W C uint8 RGB, with B or N before it. This is the
only module of the package that converts one into the other, and the only one that reads or writes video files.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.filter import Graph
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image
from torch import Tensor

from vidrd.files import replacing
from vidrd.foreign_media import MOST_BYTES, UnreadableError, frames_of_video, read_image, rgb_of


def to_uint8(videos: Float[Tensor, "B C T H W"]) -> UInt8[ndarray, "B T H W C"]:
    """Turn a network's videos into pixels: -1 becomes 0 and 1 becomes 255, values beyond are clamped.

    Rounds in float32 to the nearest integer, halves up (away from zero), so that `to_float` is undone exactly.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    if not torch.isfinite(videos).all():
        bad = int((~torch.isfinite(videos)).sum())
        raise ValueError(
            f"a video must be finite to become pixels: {bad} of {videos.numel()} values are NaN or infinite"
        )
    pixels = videos.detach().float().add(1).mul_(127.5).add_(0.5).floor_().clamp_(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 4, 1).contiguous().cpu().numpy()


def to_float(videos: UInt8[ndarray, "B T H W C"]) -> Float[Tensor, "B C T H W"]:
    """Turn pixels into what networks read: float32 on the CPU, 0 becomes -1 and 255 becomes 1."""
    channels_first = np.ascontiguousarray(np.moveaxis(videos, -1, 1), dtype=np.float32)
    return torch.from_numpy(channels_first).div_(127.5).sub_(1)


@dataclass(frozen=True)
class Encoding:
    """The encoding of a file suffix."""

    container: str
    codec: str
    pixels: str  # FFmpeg's name of the pixel format
    options: dict[str, str] = field(default_factory=dict)
    tag: str = ""  # the codec's four letters in the file, where the default will not do
    even: bool = False  # color is stored at half the size, so height and width must be even
    exact: bool = False  # what is read is what was written, and equal frames are equal files


# Without B-frames, frame numbers mean the same to every reader.
ENCODINGS: Final[dict[str, Encoding]] = {
    ".mp4": Encoding("mp4", "libx264", "yuv420p", {"crf": "10", "bf": "0"}, even=True),
    ".avi": Encoding("avi", "mpeg4", "yuv420p", {"qmin": "2", "qmax": "2", "bf": "0"}, tag="XVID", even=True),
    ".gif": Encoding("gif", "gif", "pal8"),
    ".mkv": Encoding("matroska", "ffv1", "bgr0", exact=True),
}


def write_video(
    path: str | os.PathLike[str],
    video: UInt8[ndarray, "T H W C"],
    *,
    fps: float | int | Fraction = 8,  # frames per second; a folder of PNGs keeps none
    scale: int = 1,  # pixels become squares of scale x scale
) -> None:
    """Write RGB frames as .mp4 (H.264), .avi (MPEG-4 part 2), .gif or .mkv (FFV1), or as PNGs into a folder (no suffix,
    or "name/").

    PNGs and .mkv are exact; the others are as good as they get with color at half the size (.mp4, .avi: a larger scale
    spares small videos the blur) or 256 colors (.gif, which also rounds times to 1/100 s). The file appears complete
    or not at all, and replaces one of that name; a folder must be new or empty.

    Raises:
        ValueError: the suffix is unknown, the parent folder is missing, the folder is not empty, the frames cannot be
            stored that way, or the system refuses to write.
    """
    target, folder = Path(path), check_target(path)
    frames, height, width, channels = video.shape
    if frames < 1 or channels != 3:
        raise ValueError(f"a video is frames of 3 channels (RGB): got {frames} frames of {channels} channels")
    check_look(target, height, width, fps=fps, scale=scale)

    pictures = video.repeat(scale, axis=1).repeat(scale, axis=2)
    if folder:
        _appear(target, lambda part: _write_pngs(part, pictures))
        return
    encoding = ENCODINGS[target.suffix.lower()]
    _appear(target, lambda part: _encode(part, encoding, pictures, Fraction(fps).limit_denominator(1001)))


def check_target(path: str | os.PathLike[str]) -> bool:
    """Whether a video would be written there as a folder of PNGs; call it before making the video.

    Raises:
        ValueError: nothing can be written there.
    """
    target = Path(path)
    folder = str(path).endswith("/") or not target.suffix or target.is_dir()
    if not folder and target.suffix.lower() not in ENCODINGS:
        raise ValueError(
            f"cannot write {target}: unknown suffix {target.suffix!r}; take {', '.join(ENCODINGS)}, or none for PNGs"
        )
    if not target.parent.is_dir():
        raise ValueError(f"cannot write {target}: the folder {target.parent} does not exist; make it first")
    if folder and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"cannot write PNGs to {target}: it exists and is no empty folder; name a new one")
    return folder


def check_look(
    path: str | os.PathLike[str], height: int, width: int, *, fps: float | int | Fraction, scale: int
) -> None:
    """Raise ValueError where no video of that size and rate can be written there; call it before making the video."""
    if scale < 1:
        raise ValueError(f"scale is how many times larger each pixel gets, 1 or more: got {scale}")
    if not 0.01 <= fps <= 1000:
        raise ValueError(f"fps must be between 0.01 and 1000: got {fps}")
    target = Path(path)
    encoding = None if target.is_dir() else ENCODINGS.get(target.suffix.lower())
    if encoding is not None and encoding.even and (height * scale % 2 or width * scale % 2):
        raise ValueError(
            f"{target.suffix} needs an even height and width: got {height} x {width} at scale {scale};"
            " double the scale, or write a .gif or PNGs"
        )
    if encoding is not None and encoding.container == "gif" and fps > 50:
        raise ValueError(f"a GIF shows at most 50 frames per second: got {fps}")


def _appear(target: Path, write: Callable[[Path], None]) -> None:
    """Write atomically, so that a broken write leaves nothing that looks like a video."""
    try:
        with replacing(target) as part:
            write(part)
    except (OSError, av.FFmpegError) as error:
        raise ValueError(f"cannot write {target}: {error}") from error


def _write_pngs(folder: Path, pictures: UInt8[ndarray, "T H W 3"]) -> None:
    folder.mkdir()
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{index:06d}.png")


def _encode(path: Path, encoding: Encoding, pictures: UInt8[ndarray, "T H W 3"], rate: Fraction) -> None:
    with av.open(str(path.absolute()), "w", format=encoding.container) as container:
        stream = container.add_stream(encoding.codec, rate=rate, options=encoding.options)
        if encoding.exact:
            container.flags |= av.container.Flags.bitexact.value  # no random identifier, no name of the library
            stream.codec_context.thread_count = 1  # as many slices on every machine
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = encoding.pixels
        if encoding.tag:
            stream.codec_context.codec_tag = encoding.tag
        frames = _frames(pictures, 1 / rate)
        for frame in _with_palette(frames, stream, 1 / rate) if encoding.pixels == "pal8" else frames:
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _frames(pictures: UInt8[ndarray, "T H W 3"], time_base: Fraction) -> Iterator[av.VideoFrame]:
    for index, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = index, time_base
        yield frame


def _with_palette(
    frames: Iterable[av.VideoFrame], stream: av.VideoStream, time_base: Fraction
) -> Iterator[av.VideoFrame]:
    """Map all frames to the 256 colors that suit the whole video best, without dither: it would flicker."""
    graph = Graph()
    source = graph.add_buffer(
        width=stream.width, height=stream.height, format=av.VideoFormat("rgb24"), time_base=time_base
    )
    names = {"split": "", "palettegen": "reserve_transparent=0", "paletteuse": "dither=none", "buffersink": ""}
    split, learn, use, sink = (graph.add(name, options) for name, options in names.items())
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(learn, 1, 0)
    learn.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    for frame in frames:
        source.push(frame)
    source.push(None)
    while True:
        try:
            yield sink.pull()
        except av.EOFError:
            return


def read_video(path: str | os.PathLike[str]) -> UInt8[ndarray, "T H W C"]:
    """Read all frames of a video file (any format FFmpeg decodes) or of a folder of PNGs (by name), RGB.

    Frames come in the order in which they decode to be shown, whatever their time stamps say: stamps are wrong in real
    files (AVI with B-frames). Pixels come upright, and are not stretched where they are not square. Of several video
    streams the best is read, as FFmpeg chooses.

    Raises:
        ValueError: nothing is there, it cannot be decoded, is damaged or cut off, holds no frames of one size, or more
            than fit into memory.
    """
    source = Path(path)
    if not source.exists():
        raise ValueError(f"cannot read {source}: there is no such file or folder")
    frames: list[UInt8[ndarray, "H W 3"]] = []
    try:
        for frame in _read_pngs(source) if source.is_dir() else map(rgb_of, frames_of_video(source)):
            frames.append(frame)
            if frame.shape != frames[0].shape:
                sizes = ", ".join(map(str, sorted({frame.shape, frames[0].shape})))
                raise UnreadableError(f"its frames differ in size ({sizes})")
            if len(frames) * frame.nbytes > MOST_BYTES:
                raise UnreadableError(f"its frames are more than {MOST_BYTES >> 30} GiB: cut it")
    except (OSError, UnreadableError) as error:
        raise ValueError(f"cannot read {source}: it is broken or no video ({error})") from error
    if not frames:
        raise ValueError(f"cannot read {source}: it holds no {'PNGs' if source.is_dir() else 'video frames'}")
    return np.stack(frames)


def _read_pngs(folder: Path) -> Iterator[UInt8[ndarray, "H W 3"]]:
    for file in sorted(folder.glob("*.png")):
        try:
            yield read_image(file)
        except UnreadableError as error:
            raise UnreadableError(f"{file.name}: {error}") from error


def square(
    frames: UInt8[ndarray, "T H W 3"],
    size: int,
    share: float | int = 1.0,  # of the shorter side
    place: tuple[float | int, float | int] = (0.5, 0.5),  # down and across, from 0 to 1
) -> Float[Tensor, "3 T size size"]:
    """A square of frames at `size` pixels in [-1, 1]; reduced with anti-aliasing, bilinear."""
    _, height, width, _ = frames.shape
    side = max(1, round(min(height, width) * share))
    top, left = int((height - side) * place[0]), int((width - side) * place[1])
    cut = torch.from_numpy(np.ascontiguousarray(frames[:, top : top + side, left : left + side]))
    pixels = cut.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    if side != size:
        pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return pixels.transpose(0, 1).contiguous()


def fitted(video: UInt8[ndarray, "T H W 3"], size: int) -> UInt8[ndarray, "1 T size size 3"]:
    """The middle square of a video at `size` pixels; one of that size stays as it is."""
    return to_uint8(square(video, size)[None])
