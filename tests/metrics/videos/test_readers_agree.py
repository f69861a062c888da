"""The metrics and data preparation show the same pixels of the same file, or both refuse it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metrics.videos.decode import read_picture, read_video
from tests.metrics.video_files import copy_from, noisy, some_videos, write_video, write_xvid
from vidrd.foreign_media import frames_of_video, read_image, rgb_of

ONE = 1 << 16


def edited(path: Path) -> None:
    write_video(path.with_name("whole.mp4"), noisy(), options={"g": "30"})
    copy_from(path.with_name("whole.mp4"), path, 7)


def damaged(path: Path) -> None:
    write_xvid(path, noisy(), b_frames=0)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 24] = bytes(255 - octet for octet in content[middle : middle + 24])
    path.write_bytes(content)


def cut(path: Path) -> None:
    write_video(path, noisy(), "libvpx-vp9")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])


def with_holes(path: Path) -> None:
    frames = [Image.fromarray(frame).convert("RGBA") for frame in some_videos(1, frames=3)[0]]
    for frame in frames:
        frame.putpixel((2, 2), (0, 0, 0, 0))
    frames[0].save(path, save_all=True, append_images=frames[1:], disposal=2)


VIDEOS = {
    "plain.mp4": write_video,
    "xvid.avi": write_xvid,
    "ten bits.mp4": lambda path, video: write_video(path, video, "libx265", "yuv420p10le", options=QUIET),
    "full range.avi": lambda path, video: write_video(path, video, "mjpeg", "yuvj420p"),
    "palette.gif": lambda path, video: write_video(path, video, "gif", "rgb8"),
    "turned.mp4": lambda path, video: write_video(path, video, matrix=[0, -ONE, 0, ONE, 0, 0, 0, 0, 1 << 30]),
    "mirrored.mp4": lambda path, video: write_video(path, video, matrix=[-ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30]),
    "edited.mp4": lambda path, _: edited(path),
}
QUIET = {"x265-params": "log-level=none"}
REFUSED = {
    "slanted.mp4": lambda path: write_video(path, noisy(), matrix=[ONE, ONE, 0, -ONE, ONE, 0, 0, 0, 1 << 30]),
    "damaged.avi": damaged,
    "cut.webm": cut,
    "holes.gif": with_holes,
    "playlist.mp4": lambda path: path.write_text("#EXTM3U\n#EXTINF:9,\nwhole.mp4\n#EXT-X-ENDLIST\n"),
}


@pytest.mark.parametrize("name", VIDEOS)
def test_frames_are_the_same(tmp_path, name):
    VIDEOS[name](tmp_path / name, noisy(12))
    ours = read_video(tmp_path / name, 0, None, 1)
    theirs = np.stack([rgb_of(frame) for frame in frames_of_video(tmp_path / name)])
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", REFUSED)
def test_what_one_refuses_the_other_does_too(tmp_path, name):
    REFUSED[name](tmp_path / name)
    with pytest.raises(ValueError, match=name):
        read_video(tmp_path / name, 0, None, 1)
    with pytest.raises(ValueError, match=r"\w"):
        [rgb_of(frame) for frame in frames_of_video(tmp_path / name)]


KINDS = {
    "png": ("RGB", "L", "P", "1", "RGBA", "LA", "I;16"),
    "jpg": ("RGB", "L", "1", "CMYK"),
    "webp": ("RGB", "L", "P", "RGBA"),
    "bmp": ("RGB", "L", "P", "1", "RGBA"),
}


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in KINDS.items() for mode in modes])
def test_pictures_are_the_same(tmp_path, mode, kind):
    picture = some_videos(1)[0, 0]
    image = Image.fromarray(picture[..., 0].astype(np.uint16) * 200) if mode == "I;16" else Image.fromarray(picture)
    image = image if mode == "I;16" else image.convert("RGBA" if mode == "LA" else "RGB").convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"a.{kind}"
    image.save(path, **({"exif": exif} if kind != "bmp" else {}))
    np.testing.assert_array_equal(read_picture(path), read_image(path))
