"""From sets to scores: which clips are scored together, in parts of which size, with which floor."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from metrics.distribution.inception_score import ceiling
from metrics.evaluation.dataset import ReadOptions, ResolvedProtocol
from metrics.evaluation.evaluator import Evaluator
from metrics.networks.features import Features
from metrics.protocols import IS
from metrics.videos.clips import Clip
from metrics.videos.read import Video, VideoInfo

CLASSES = 20


@dataclass(frozen=True)
class Shot(Video):
    """A video of one class, named so that classes are together, as UCF-101's files do."""

    level: int = 0

    def probe(self):
        return VideoInfo(16, 2, 2, None, "array", 1.0)

    def read(self, start=0, count=None, stride=1):
        return np.full((count or 16, 2, 2, 3), self.level, dtype=np.uint8)

    def fingerprint(self):
        return self.name


class Recognizing:
    """Recognizes a video's class by its light, with certainty."""

    name, min_frames, digest = "recognizing", 1, "0"

    def embed(self, videos):
        rows = 40.0 * np.eye(CLASSES)[videos[:, 0, 0, 0, 0]]
        return Features(rows, {"ucf101": rows})


def by_class(each: int) -> list[Video]:
    names = [(f"class{c:02}/v{i:03}.avi", c) for c in range(CLASSES) for i in range(each)]
    return [Shot(name, Path(name), "array", level=c) for name, c in names]


def small(name: str, n: int, repeats: int) -> ResolvedProtocol:
    row = IS[name]
    sampling = replace(row.sampling, n=n * repeats)
    protocol = ResolvedProtocol.of("is", name)
    draw = None if protocol.draw is None else n
    row = replace(row, n=n, repeats=repeats, sampling=sampling)
    return replace(protocol, real=sampling, fake=sampling, row=asdict(row), draw=draw, repeats=repeats)


def score(videos, protocol, options=None):
    evaluator = Evaluator(protocol, Recognizing(), options or ReadOptions(allow_small=True))
    fake = evaluator.features(videos, "fake")
    return evaluator.inception_score(fake), fake.clips


@pytest.mark.parametrize("name", ["tgan", "tgan2"])
def test_draws_hold_all_classes_of_a_set_that_is_sorted_by_class(name):
    videos, protocol = by_class(50), small(name, n=200, repeats=4)
    result, clips = score(videos, protocol)
    assert len(clips) == result.scores["is"].n == 800
    for part in range(4):
        assert len({clip.video[:7] for clip in clips[200 * part :][:200]}) == CLASSES
    assert result.scores["is"].value == pytest.approx(ceiling(CLASSES, 800, splits=4), rel=0.02)
    few, _ = score(videos, protocol, ReadOptions(n=200, allow_small=True))
    assert few.scores["is"].value == pytest.approx(ceiling(CLASSES, 200), rel=0.03)  # not the first classes by name


def test_styleganv_takes_the_first_names_as_its_code_does():
    result, clips = score(by_class(50), small("styleganv", n=200, repeats=1))
    assert {clip.video[:7] for clip in clips} == {f"class{c:02}" for c in range(4)}
    assert result.scores["is"].value < 4.01


@pytest.mark.parametrize(("clips", "draws", "scored"), [(250, 2, 200), (99, 1, 99), (100, 1, 100), (500, 3, 300)])
def test_draws_have_exactly_the_size_that_the_protocol_says(clips, draws, scored):
    result, _ = score(by_class(25), small("tgan2", n=100, repeats=3), ReadOptions(n=clips, allow_small=True))
    assert result.scores["is"].n == result.scores["is_ceiling"].n == scored
    assert ("is_std" in result.scores) == (draws > 1)
    assert any(f"{clips - scored} of {clips} clips make no whole draw of 100" in note for note in result.notes) == (
        scored < clips
    )


def test_windows_of_a_set_that_is_sorted_by_class_are_mixed_too():
    protocol = small("tgan2", n=40, repeats=2).tile()
    _, clips = score(by_class(20), protocol, ReadOptions(n=80, allow_small=True))
    assert len({clip.video[:7] for clip in clips}) > CLASSES / 2


@pytest.mark.parametrize("name", IS)
def test_a_row_draws_as_many_videos_as_its_draws_hold(name):
    row = IS[name]
    assert row.sampling.n == row.n * row.repeats
    assert ResolvedProtocol.of("is", name).real == row.sampling


@pytest.mark.parametrize(
    ("metric", "name", "options", "asked", "label"),
    [
        ("fvd", "styleganv", {}, {}, "styleganv"),
        ("fvd", "styleganv", {}, {"n": 2048}, "styleganv"),
        ("fvd", "styleganv", {"frames": 16, "stride": 1}, {}, "styleganv"),
        ("fvd", "styleganv", {"frames": 10, "stride": 3}, {"n": 3}, "styleganv(frames=10,stride=3,n=3)"),
        ("fvd", "cdfvd", {}, {"n": 2048}, "cdfvd(n=2048)"),  # it takes all real videos
        ("is", "styleganv", {}, {"splits": 10}, "styleganv"),
        ("is", "styleganv", {}, {"splits": 2}, "styleganv(splits=2)"),
        ("fvd", "pocket", {"frames": 8}, {"n": 3}, "pocket"),
    ],
)
def test_a_changed_row_has_another_name(metric, name, options, asked, label):
    assert ResolvedProtocol.of(metric, name, **options).label(**asked) == label


def test_windows_are_named():
    assert ResolvedProtocol.of("fvd", "google", frames=20).tile().label() == "google(window=20)"


def test_listed_clips_of_another_length_do_not_get_the_protocol_s_name():
    evaluator = Evaluator(ResolvedProtocol.of("is", "styleganv"), Recognizing(), ReadOptions(allow_small=True))
    videos = by_class(1)
    clips = [Clip(video.name, 0, 8) for video in videos]
    with pytest.raises(ValueError, match="the list has a clip of 8 frames with stride 1, styleganv takes 16"):
        evaluator.features(videos, "fake", clips=clips)
    listed = evaluator.features(videos, "fake", clips=[replace(clip, frames=16) for clip in clips])
    assert listed.n == len(videos)


def test_only_real_videos_are_said_to_be_stored_already():
    options = ReadOptions(stored=True, allow_small=True)
    evaluator = Evaluator(ResolvedProtocol.of("fvd", "cdfvd"), Recognizing(), options)
    real, fake = (evaluator.work(by_class(1), side) for side in ("real", "fake"))
    assert real.prepare is None
    assert fake.prepare is not None
