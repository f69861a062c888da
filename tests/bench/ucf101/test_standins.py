"""The stand-ins are read by the code that reads the real files, and say what they are."""

from collections import Counter
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from bench.ucf101.archive import read_archive
from bench.ucf101.classes import classes
from bench.ucf101.downloads import REMOTE_FILES, examine
from bench.ucf101.prompts import prompt_set
from bench.ucf101.standins import THIN
from bench.ucf101.standins.archive import make_archive
from bench.ucf101.standins.model import SIZE, make_model, make_released
from bench.ucf101.standins.weights import METRIC_FILES, make_metric_weights, make_weights
from metrics.networks.c3d import load_c3d, read_mean
from metrics.networks.i3d import load_i3d
from vidrd.checkpoints import load_pipeline

AMONG = ("ApplyEyeMakeup", "HandstandPushups", "YoYo")


def words(text):
    """Its letters: a tokenizer sets spaces of its own around marks."""
    return "".join(text.lower().split())


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return make_archive(
        tmp_path_factory.mktemp("ucf101") / "data", 4, among=AMONG, frames=(29, 31), height=48, width=64
    )


def test_the_archive_has_the_layout_the_lists_and_the_splits(archive):
    whole_archive = read_archive(archive)
    assert whole_archive.whole
    assert not whole_archive.official
    assert whole_archive.class_names == AMONG
    for split in (1, 2, 3):
        assert whole_archive.counts(split, "train") == dict.fromkeys(AMONG, 3)
        assert whole_archive.counts(split, "test") == dict.fromkeys(AMONG, 1)
    assert {video.group for video in whole_archive.videos} == {1, 8, 15, 22}
    assert (archive / "UCF-101/HandstandPushups/v_HandStandPushups_g08_c01.avi").is_file()
    for file in (archive / "ucfTrainTestlist").iterdir():
        assert file.read_bytes().count(b"\r\n") == file.read_bytes().count(b"\n") > 0


def test_two_videos_a_class_are_one_to_test_and_one_to_train(tmp_path):
    whole_archive = read_archive(make_archive(tmp_path, among=("Archery",), frames=(9,), height=16, width=16))
    assert [video.halves[0] for video in whole_archive.videos] == ["test", "train"]


def test_films_are_as_in_the_archive_and_read_by_decode_order(archive):
    videos = read_archive(archive).video_files(1, "all")
    about = [video.probe() for video in videos]
    assert Counter(info.frames for info in about) == {29: 6, 31: 6}
    assert {(info.height, info.width, info.codec) for info in about} == {(48, 64, "mpeg4")}
    assert Counter(Fraction(info.fps).limit_denominator(1001) for info in about) == {25: 10, Fraction(30000, 1001): 2}
    b_frames = 0
    for video, info in zip(videos, about, strict=True):
        assert len(video.read()) == info.frames
        with av.open(str(video.path)) as container:
            assert container.streams.video[0].codec_context.codec_tag == "XVID"
            b_frames += any(frame.pict_type == av.video.frame.PictureType.B for frame in container.decode(video=0))
    assert b_frames == 2
    moved = videos[0].read().astype(int)
    assert np.abs(np.diff(moved, axis=0)).mean() > 0.1


def test_no_two_classes_show_the_same_action_in_the_same_colour():
    kinds = {(each.index % 14, each.index // 14) for each in classes()}
    assert len(kinds) == 101
    assert max(colour for _, colour in kinds) < 8


def test_an_archive_that_cannot_be_made_says_why(tmp_path):
    with pytest.raises(ValueError, match="Archry is no class of UCF-101"):
        make_archive(tmp_path, among=("Archry",))
    for wrong in ({"per_class": 0}, {"per_class": 29}, {"height": 15}):
        with pytest.raises(ValueError, match="1 to 28 videos per class"):
            make_archive(tmp_path, **wrong)


def test_released_files_become_a_pipeline_that_reads_our_prompts_whole(tmp_path, caplog):
    before = torch.random.get_rng_state()
    folder = make_released(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)
    pipeline = load_pipeline(make_model(tmp_path, tmp_path / "model"))
    assert torch.equal(pipeline.unet.state_dict()["conv_in.weight"], folder["unet"].state_dict()["conv_in.weight"])
    for prompt in prompt_set("descriptive").prompts:
        ids = pipeline.tokenizer(prompt.text).input_ids
        assert len(ids) <= 77
        assert words(pipeline.tokenizer.decode(ids, skip_special_tokens=True)) == words(prompt.text)
    strange = pipeline.tokenizer("Ünder 水").input_ids
    assert len(strange) > 4  # unknown letters are spelled out in bytes
    out = pipeline(prompt_set("descriptive").prompts[0].text, num_frames=8, num_inference_steps=2, guidance_scale=2.0)
    assert out.frames.shape == (1, 8, SIZE, SIZE, 3)
    assert not caplog.records


def test_both_files_of_i3d_hold_the_same_tensors(tmp_path):
    files = ["i3d_torchscript.pt", "i3d_pretrained_400.pt"]
    make_metric_weights(tmp_path, only=files)
    assert len({load_i3d(tmp_path / name, "styleganv").digest for name in files}) == 1
    with pytest.raises(ValueError, match=r"c3d\.pickle is none of the metrics' files"):
        make_metric_weights(tmp_path, only=["c3d.pickle"])


def test_thin_networks_are_read_only_where_they_are_asked_for(tmp_path):
    make_metric_weights(tmp_path, thin=THIN)
    clip = np.zeros((1, 16, 20, 30, 3), np.uint8)
    inflated = [tmp_path / name for name, network in METRIC_FILES.items() if network == "i3d"]
    assert len({load_i3d(path, "styleganv", thin=THIN).digest for path in inflated}) == 1
    assert load_i3d(inflated[0], "styleganv", thin=THIN).embed(clip).embedding.shape == (1, 400)
    assert load_c3d(tmp_path, "styleganv", thin=THIN).embed(clip).embedding.shape == (1, 101)
    for path in inflated:
        with pytest.raises(ValueError, match="i3d wants"):
            load_i3d(path, "styleganv")
    with pytest.raises(ValueError, match="c3d wants"):
        load_c3d(tmp_path, "styleganv")


@pytest.mark.slow
def test_every_file_that_the_full_run_needs_is_made_and_loads(tmp_path):
    make_weights(tmp_path)
    states = {each.needed.file: each.state for each in examine(tmp_path, REMOTE_FILES) if each.state != "here"}
    # Of the files with published checksums the stand-ins differ; what no score needs is not made.
    assert states == dict.fromkeys(
        ["i3d_torchscript.pt", "i3d_pretrained_400.pt", "rgb_scratch/model.ckpt.data-00000-of-00001"], "wrong"
    ) | dict.fromkeys(["c3d_ucf101.pt"], "missing")
    files = [name for name, network in METRIC_FILES.items() if network == "i3d"]
    assert len({load_i3d(tmp_path / name, "styleganv").digest for name in files}) == 1
    assert read_mean(tmp_path / "mean2.npz").shape == (3, 16, 128, 171)
    assert load_c3d(tmp_path, "styleganv").digest
