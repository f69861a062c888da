"""Frames are counted as they decode, stored files are read back exactly, and real oddities are survived."""

import io

import av
import numpy as np
import pytest

from tests.vidrd.data.clips import number_of, numbered, write_with_b_frames
from vidrd.data.media import (
    Fit,
    UnreadableError,
    decode,
    display_size,
    encode_mp4,
    fetch,
    fit_image,
    probe,
    read_image,
    read_mp4,
    to_rgb,
    to_yuv,
)


@pytest.fixture(scope="module")
def stored():
    return encode_mp4([to_yuv(frame) for frame in numbered(70)], 25.0)


def test_stored_clips_have_every_frame_once_and_in_order(stored):
    assert [number_of(frame) for frame in read_mp4(stored)] == list(range(70))


@pytest.mark.parametrize("indices", [range(0, 8), range(40, 48), range(15, 60, 3), [69], [16, 17], [33, 33, 34]])
def test_any_run_of_frames_is_read_exactly(stored, indices):
    frames = read_mp4(stored, indices)
    assert [number_of(frame) for frame in frames] == list(indices)
    assert np.array_equal(frames, read_mp4(stored)[list(indices)])


def test_frames_beyond_the_end_are_refused(stored):
    with pytest.raises(IndexError, match="frames 68 to 71 are wanted"):
        read_mp4(stored, range(68, 72))


def test_stored_clips_have_no_b_frames_and_even_key_frames(stored):
    with av.open(io.BytesIO(stored)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    assert all(p.pts == p.dts for p in packets)
    assert [i for i, p in enumerate(packets) if p.is_keyframe] == [0, 16, 32, 48, 64]


@pytest.mark.parametrize("fps", [25.0, 30000 / 1001, 8.0, 12.5])
def test_odd_rates_number_frames_alike(fps):
    data = encode_mp4([to_yuv(frame) for frame in numbered(40)], fps)
    assert [number_of(frame) for frame in read_mp4(data, range(20, 40, 7))] == [20, 27, 34]
    assert probe(data).fps == pytest.approx(fps, rel=1e-5)


def test_a_rate_that_no_camera_has_is_measured():
    """A webm whose header counts ticks of a thousandth second, and its frames every 40 of them."""
    file = io.BytesIO()
    with av.open(file, "w", format="webm") as container:
        stream = container.add_stream("libvpx", rate=1000)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for index, picture in enumerate(numbered(20)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = 40 * index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(io.BytesIO(file.getvalue())) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(1000, rel=0.1)
    assert probe(file.getvalue()).fps == pytest.approx(25, rel=0.01)


def test_b_frames_without_time_stamps_decode_in_order(tmp_path):
    write_with_b_frames(tmp_path / "b.avi", numbered(60))
    numbers = [number_of(to_rgb(frame)) for frame in decode(tmp_path / "b.avi")]
    assert numbers == list(range(60))


def test_size_and_pixel_shape():
    info = probe(encode_mp4([to_yuv(np.zeros((90, 120, 3), np.uint8))] * 2, 25))
    assert display_size(info, None) == (120, 90)
    assert display_size(info, 60) == (80, 60)
    from dataclasses import replace

    assert display_size(replace(info, pixel_aspect=16 / 15), 90) == (128, 90)
    assert display_size(replace(info, pixel_aspect=1e6), 90) == (120, 90)


def test_what_is_broken_says_so(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    with pytest.raises(UnreadableError, match="cannot be opened"):
        list(decode(tmp_path / "a.mp4"))
    with pytest.raises(UnreadableError, match="no picture"):
        read_image(b"no picture")
    with pytest.raises(FileNotFoundError):
        fetch(str(tmp_path / "none.mp4"))


def test_a_file_cut_short_gives_what_it_has(tmp_path, stored):
    write_with_b_frames(tmp_path / "b.avi", numbered(60))
    whole = (tmp_path / "b.avi").read_bytes()
    frames = []
    try:
        for frame in decode(whole[: len(whole) * 4 // 5]):
            frames.append(number_of(to_rgb(frame)))
    except UnreadableError:
        pass
    assert frames == list(range(len(frames)))
    assert 10 < len(frames) < 60


def test_pictures_are_reduced_and_made_even():
    picture = np.random.default_rng(0).integers(0, 255, (701, 1033, 3), dtype=np.uint8)
    small = fit_image(picture, Fit(shorter=256))
    assert small.shape[0] == 256
    assert small.shape[1] % 2 == 0
    assert fit_image(picture[:51, :31], Fit()).shape == (50, 30, 3)
    assert fit_image(np.zeros((64, 9000, 3), np.uint8), Fit()).shape == (64, 2048, 3)


ODD = [
    "mmaction2_demo.mp4",
    "torchcodec_av1_video.mkv",
    "torchcodec_bt709_full_range.mp4",
    "torchcodec_h264_10bits.mp4",
    "torchcodec_h265_10bits.mp4",
    "torchcodec_nasa_13013.mp4",
    "v_CricketShot_g04_c01_rgb.gif",
    "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi",
]


@pytest.mark.parametrize("name", ODD)
def test_odd_files_are_stored_as_they_look(real_clips, name):
    path = real_clips / "odd" / name
    frames = []
    for frame in decode(path):
        frames.append(frame)
        if len(frames) == 20:
            break
    back = read_mp4(encode_mp4(frames, probe(path).fps))
    assert len(back) == len(frames)
    originals = np.stack([to_rgb(frame) for frame in frames]).astype(float)
    psnr = 10 * np.log10(255**2 / ((back - originals) ** 2).mean())
    assert psnr > 33, psnr
