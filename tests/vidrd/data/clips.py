"""Small videos that say what they are."""

from fractions import Fraction

import av
import numpy as np

from vidrd.pocket.world import TRAIN_SEEDS, draw_scene


def scenes(count, first=0):
    return [draw_scene(seed) for seed in TRAIN_SEEDS[first : first + count]]


def numbered(frames, height=64, width=96):
    """Frames that say their number: brightness of eight blocks, as bits."""
    video = np.full((frames, height, width, 3), 60, np.uint8)
    for index in range(frames):
        for bit in range(8):
            if index >> bit & 1:
                video[index, : height // 2, bit * width // 8 : (bit + 1) * width // 8] = 220
    return video


def number_of(frame):
    width = frame.shape[1]
    blocks = [frame[: frame.shape[0] // 2 - 4, b * width // 8 + 3 : (b + 1) * width // 8 - 3] for b in range(8)]
    return sum((block.mean() > 140) << bit for bit, block in enumerate(blocks))


def write_with_b_frames(path, video):
    """An XVID AVI whose time stamps lie, as in UCF-101."""
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(25), options={"bf": "2", "g": "250"})
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.codec_tag = "XVID"
        for picture in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
