"""Small files of every kind, made when a test needs them."""

import pytest

from tests.real_clips import CLIPS, WANTED
from tests.vidrd.data.clips import scenes
from vidrd.pocket.world import caption, render
from vidrd.video import write_video


@pytest.fixture(scope="session")
def real_clips():
    if not CLIPS.is_dir():
        pytest.skip(WANTED)
    return CLIPS


@pytest.fixture(scope="session")
def pocket_folder(tmp_path_factory):
    """Twelve pocket clips with captions, one of them broken, and one of them twice."""
    root = tmp_path_factory.mktemp("pocket")
    some = scenes(10)
    videos = render(some, 20, size=32)
    for index, (scene, video) in enumerate(zip(some, videos, strict=True)):
        write_video(root / f"{index:02d}.mp4", video, fps=8, scale=2)
        (root / f"{index:02d}.txt").write_text(caption(scene) + "\n")
    write_video(root / "copy.mp4", videos[0], fps=8, scale=2)
    (root / "copy.txt").write_text(caption(some[0]))
    (root / "broken.mp4").write_bytes(b"this is no video")
    return root
