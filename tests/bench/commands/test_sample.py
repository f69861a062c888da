"""`python -m bench sample` makes each method's own video of one prompt, and refuses before it makes anything."""

import numpy as np
import pytest

from baselines.models.families import load_model
from bench.methods import METHODS
from bench.videos.one_prompt import side_by_side
from vidrd.checkpoints import load_pipeline
from vidrd.pocket.world import caption, draw_scene, render
from vidrd.sampler_contract import Request
from vidrd.video import read_video, write_video

PROMPT = "a red plain star moving left on a navy background"
WAN = "tiny:WanPipeline:2.1-euler"


@pytest.fixture
def sample(bench, tmp_path):
    def run(*words, prompt=PROMPT, out=tmp_path / "videos"):
        return bench("sample", "--prompt", prompt, "--out", str(out), *map(str, words))

    return run


def test_vidrd_is_the_pipelines_own_video(sample, tmp_path):
    code, out, _ = sample(
        "--method", "vidrd", "--frames", 20, "--steps", 3, "--seed", 7, "--format", "png", "--scale", 1
    )
    assert code == 0
    pipe = load_pipeline("pocket")
    expected = pipe(
        PROMPT, num_frames=20, num_inference_steps=3, guidance_scale=2.0, seed=7, output_type="uint8"
    ).frames[0]
    assert np.array_equal(read_video(tmp_path / "videos" / "vidrd"), expected)
    assert "videos/vidrd: 20 frames, seams at [8, 16], 3 steps, fe/frame 7.2" in out  # 3 clips of 8, two branches


def test_every_method_makes_what_its_sampler_makes(sample, tmp_path):
    names = ("codenoise", "fifo-zigzag")
    code, out, _ = sample("--method", *names, "--frames", 12, "--steps", 2, "--format", "mkv", "--scale", 1)
    assert code == 0
    model = load_model("pocket")
    request = Request(12, 8, model.latent_shape(), (0,))
    *lines, last = out.splitlines()
    for name, line in zip(names, lines, strict=True):
        method, denoise = METHODS[name], model.denoiser([PROMPT], guidance=2.0)
        result = method.sample(denoise, model.schedule(2), request, method.options(4))
        assert np.array_equal(read_video(tmp_path / "videos" / f"{name}.mkv"), model.decode(result.latents)[0])
        assert f"{name}.mkv: 12 frames, seams at {[seam.frame for seam in result.plan.seams]}, 2 steps" in line
    grid = read_video(tmp_path / "videos" / "side-by-side.mkv")
    assert last.endswith("side-by-side.mkv: codenoise, fifo-zigzag, row by row")
    assert grid.shape == (12, 32, 32 + 2 + 32, 3)
    for name, part in zip(names, (grid[:, :, :32], grid[:, :, 34:]), strict=True):
        assert np.array_equal(part, read_video(tmp_path / "videos" / f"{name}.mkv"))


@pytest.mark.parametrize(("count", "shape"), [(1, (4, 6)), (2, (4, 14)), (3, (10, 14)), (5, (10, 22)), (7, (16, 22))])
def test_videos_side_by_side_are_whole_and_the_rest_is_white(count, shape):
    videos = [np.full((3, 4, 6, 3), 10 * i, np.uint8) for i in range(count)]
    grid = side_by_side(videos)
    assert grid.shape == (3, *shape, 3)
    assert [np.count_nonzero(grid == 10 * i) for i in range(count)] == [videos[0].size] * count
    assert np.count_nonzero(grid == 255) == grid.size - count * videos[0].size


def test_equal_fe_gives_the_dearer_method_fewer_steps(sample):
    _, out, _ = sample("--method", "independent", "codenoise", "--frames", 16, "--steps", 6, "--equal", "fe")
    independent, codenoise, _ = out.splitlines()
    assert "6 steps, fe/frame 12," in independent
    assert "4 steps, fe/frame 12," in codenoise  # three windows where there are two clips


def test_given_frames_are_kept_exactly(sample, tmp_path):
    source = render([draw_scene(5)], 9)[0]
    write_video(tmp_path / "source.mkv", source, scale=1)
    words = ("--from", tmp_path / "source.mkv", "--steps", 2, "--scale", 1, "--format", "mkv", "--method", "replace")
    code, _, _ = sample(*words, prompt=caption(draw_scene(5)))
    video = read_video(tmp_path / "videos" / "replace.mkv")
    assert code == 0
    assert len(video) == 9 + 2 * 8
    assert np.array_equal(video[:9], source)


def test_other_models_count_frames_their_own_way(sample):
    code, out, _ = sample("--model", WAN, "--method", "codenoise", "--steps", 2, prompt="hi")
    assert code == 0
    assert "codenoise.mp4: 21 frames, seams at [9, 13], 2 steps" in out  # latent frames of 4, clips of 3


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--method", "vidrd", "foo"), "methods are vidrd, vidrd-forwards, "),
        (
            ("--from", "SOURCE", "--method", "vidrd", "codenoise"),
            "codenoise cannot go on from given frames: take vidrd",
        ),
        (("--from", "SOURCE", "--model", WAN), "given frames are encoded one by one, which VidRD's models do"),
        (("--model", WAN, "--frames", "30"), "this model's videos have 4k+1 frames: got 30, try 29 or 33"),
        (("--model", WAN, "--method", "freenoise"), "freenoise: the temporal attention of this model cannot be cut"),
        (("--from", "SOURCE", "--frames", "9", "--method", "vidrd"), "given frames count in the video's"),
        (("--overlap", "9", "--method", "vidrd"), "an overlap is at most the clip"),
    ],
)
def test_what_cannot_be_made_is_said_before_anything_is(sample, tmp_path, words, line):
    write_video(tmp_path / "source.mkv", render([draw_scene(5)], 9)[0], scale=1)
    words = [str(tmp_path / "source.mkv") if word == "SOURCE" else word for word in words]
    code, out, error = sample(*words, "--steps", "2")
    assert (code, out) == (3, "")
    assert error.startswith(f"bench: {line}")
    assert error.count("\n") == 1
    assert not (tmp_path / "videos").exists()


def test_a_change_beyond_the_end_is_refused(sample, tmp_path):
    code, _, error = sample("--frames", "16", prompt=f"0: {PROMPT} | 16: {PROMPT}")
    assert code == 3
    assert "16" in error
    assert not (tmp_path / "videos").exists()


def test_a_folder_of_pngs_is_not_mixed_with_another(sample, tmp_path):
    words = ("--method", "independent", "--frames", 8, "--steps", 1, "--format", "png")
    assert sample(*words)[0] == 0
    code, _, error = sample(*words)
    assert code == 3
    assert str(tmp_path / "videos" / "independent") in error
