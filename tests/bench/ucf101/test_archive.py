"""The data set is what its lists say, or every fault is named; the lists are the official ones, or that is said."""

import hashlib
from collections import Counter

import pytest

from bench.ucf101.archive import ArchiveError, parse_lists, read_archive
from bench.ucf101.classes import LIST_SHA256, SPLITS, class_counts, classes, list_files
from tests.bench.ucf101.archives import fake_archive, table
from tests.real_clips import CLIPS, WANTED

SIZES = {1: (9537, 3783), 2: (9586, 3734), 3: (9624, 3696)}  # train, test, as published


@pytest.fixture
def archive(tmp_path):
    return fake_archive(tmp_path / "data")


def test_the_built_in_lists_are_the_official_files_byte_for_byte():
    files = list_files()
    assert {name: hashlib.sha256(content).hexdigest() for name, content in files.items()} == LIST_SHA256
    if (CLIPS / "ucfTrainTestlist").is_dir():
        for name, content in files.items():
            assert content == (CLIPS / "ucfTrainTestlist" / name).read_bytes()


def test_official_splits_have_the_published_sizes_and_share_no_group():
    names, halves = parse_lists(list_files())
    assert len(names) == 101
    assert len(halves) == 13320
    for split, (train, test) in SIZES.items():
        assert Counter(half[split - 1] for half in halves.values()) == {"train": train, "test": test}
        assert sum(class_counts(split, "train").values()) == train
        assert sum(class_counts(split, "test").values()) == test
        groups = {"train": set(), "test": set()}
        for name, half in halves.items():
            groups[half[split - 1]].add(name.rsplit("_c", 1)[0])
        assert not groups["train"] & groups["test"]
    assert sum(class_counts(1, "all").values()) == 13320
    assert (min(class_counts().values()), max(class_counts().values())) == (72, 121)


def test_the_real_clips_are_a_partial_archive_of_the_official_lists():
    if not (CLIPS / "UCF-101").is_dir():
        pytest.skip(WANTED)
    with pytest.raises(ArchiveError, match="of 13320 videos are missing") as fault:
        read_archive(CLIPS)
    whole_archive = read_archive(CLIPS, allow_partial=True)
    assert whole_archive.official
    assert not whole_archive.whole
    assert len(whole_archive.videos) + len(fault.value.missing) == whole_archive.listed == 13320
    for split in SPLITS:
        train, test = whole_archive.of_split(split, "train"), whole_archive.of_split(split, "test")
        assert len(train) + len(test) == len(whole_archive.of_split(split, "all")) == len(whole_archive.videos)
    video = whole_archive.video_files(1, "all")[0]
    assert video.probe()[:3] == (164, 240, 320)
    assert video.read(0, 16).shape == (16, 240, 320, 3)
    assert video.name == "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi"


def test_a_whole_archive_is_read_from_either_folder(archive):
    whole_archive = read_archive(archive)
    assert whole_archive == read_archive(archive / "UCF-101") == read_archive(archive, splits=archive)
    assert whole_archive.whole
    assert not whole_archive.official  # its lists are its own
    assert len(whole_archive.videos) == 100
    first = whole_archive.videos[0]
    assert (first.class_name, first.class_index, first.group, first.clip, first.size) == ("ApplyEyeMakeup", 0, 1, 1, 2)
    assert first.halves == ("test", "train", "train")
    odd = whole_archive.videos[-1]
    assert odd.path == "HandstandPushups/v_HandStandPushups_g25_c02.avi"
    assert odd.halves == ("train",) * 3
    assert whole_archive.counts(1, "train") == {"ApplyEyeMakeup": 36, "HandstandPushups": 36}
    assert [video.name for video in whole_archive.video_files(2, "test")] == [
        video.path for video in whole_archive.of_split(2, "test")
    ]


def test_links_that_lead_in_circles_list_no_video_twice(archive):
    before = read_archive(archive).manifest()
    (archive / "UCF-101" / "self").symlink_to(".")
    (archive / "UCF-101" / "Again").symlink_to("ApplyEyeMakeup")
    (archive / "UCF-101" / "preview.jpg").write_bytes(b"x")
    assert read_archive(archive).manifest() == before


def test_other_line_ends_are_the_same_lists_and_other_lists_are_not(archive):
    before = read_archive(archive).manifest()
    for file in (archive / "ucfTrainTestlist").iterdir():
        file.write_bytes(file.read_bytes().replace(b"\r\n", b"\n") + b"\n\n")
    assert read_archive(archive).manifest() == before
    other = fake_archive(archive / "other", table(clips=3))
    assert read_archive(other).manifest()["lists_sha256"] != before["lists_sha256"]


def test_without_list_files_the_official_lists_hold(archive):
    for file in (archive / "ucfTrainTestlist").iterdir():
        file.unlink()
    with pytest.raises(ArchiveError, match=r"are missing .* all of 99 classes"):
        read_archive(archive)
    whole_archive = read_archive(archive, allow_partial=True)
    assert whole_archive.official
    assert whole_archive.listed == 13320


def test_the_manifest_tells_sizes_and_names(archive):
    before = read_archive(archive).manifest()
    path = archive / "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g03_c01.avi"
    path.write_bytes(b"other length")
    assert read_archive(archive).manifest()["names_and_sizes_sha256"] != before["names_and_sizes_sha256"]
    path.unlink()
    part = read_archive(archive, allow_partial=True)
    assert (part.manifest()["videos"], part.listed, part.whole) == (99, 100, False)


def rename(folder, new):
    (folder / "HandstandPushups/v_HandStandPushups_g02_c01.avi").rename(folder / "HandstandPushups" / new)


@pytest.mark.parametrize(
    ("spoil", "message", "named"),
    [
        (lambda f: (f / "ApplyEyeMakeup/v_ApplyEyeMakeup_g02_c02.avi").unlink(),
         r"1 of 100 videos are missing \(ApplyEyeMakeup/v_ApplyEyeMakeup_g02_c02.avi\)", (1, 0, 0)),
        (lambda f: (f / "ApplyEyeMakeup/v_ApplyEyeMakeup_g02_c02.avi").write_bytes(b""), "1 are empty", (0, 0, 1)),
        (lambda f: (f / "ApplyEyeMakeup/new.avi").write_bytes(b"x"), r"1 video files are in no list .*Move", (0, 1, 0)),
        (lambda f: rename(f, "v_HandstandPushups_g02_c01.avi"),
         "HandstandPushups_g02_c01.avi must be called HandstandPushups/v_HandStandPushups_g02_c01.avi", (1, 1, 0)),
        (lambda f: rename(f, "v_HandStandPushups_g02_c01.mp4"), "re-encoded, which changes scores", (1, 1, 0)),
    ],
)  # fmt: skip
def test_every_fault_is_named(archive, spoil, message, named):
    spoil(archive / "UCF-101")
    with pytest.raises(ArchiveError, match=message) as fault:
        read_archive(archive)
    assert tuple(map(len, (fault.value.missing, fault.value.extra, fault.value.empty))) == named


def test_notes_of_file_managers_and_hidden_files_do_not_matter(archive):
    before = read_archive(archive)
    (archive / "UCF-101" / "ApplyEyeMakeup" / "Thumbs.db").write_bytes(b"x")
    (archive / "UCF-101" / "ApplyEyeMakeup" / "._v_ApplyEyeMakeup_g01_c01.avi").write_bytes(b"x")
    assert read_archive(archive) == before


def replace(name, old, new):
    return lambda lists: {**lists, name: lists[name].replace(old, new, 1)}


FIRST = b"ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replace("classInd.txt", b"2 Hand", b"3 Hand"), r"classInd.txt, line 2 must be '2 Name'"),
        (replace("classInd.txt", b"2 HandstandPushups", b"2 ApplyEyeMakeup"), "a new name"),
        (replace("trainlist01.txt", FIRST + b" 1", FIRST + b" 2"), "line 1 contradicts classInd.txt"),
        (replace("trainlist01.txt", FIRST + b" 1", FIRST), "line 1 must end with the number of the class"),
        (replace("trainlist01.txt", FIRST, FIRST.replace(b"g08", b"g09")), "is twice in trainlist01.txt"),
        (replace("trainlist01.txt", FIRST, FIRST.replace(b"g08", b"g01")), "both halves of split 1"),
        (replace("testlist01.txt", b"_g01_c02", b"_g09_c07"), "group 09 of ApplyEyeMakeup is in both halves of split"),
        (replace("trainlist02.txt", b"_g01_c02", b"_g01_c05"), "split 2 does not cover the videos of split 1"),
        (replace("testlist03.txt", b"v_Apply", b"v_Imply"), "line 1 names no video"),
        (replace("testlist03.txt", b"ApplyEyeMakeup/v", b"../../v"), "line 1 names no video"),
    ],
)
def test_lists_that_contradict_themselves_are_refused(change, message):
    sound = dict(list_files(table()))
    parse_lists(sound)
    changed = change(sound)
    assert changed != sound
    with pytest.raises(ValueError, match=message):
        parse_lists(changed)


def test_a_missing_list_file_is_named(archive):
    (archive / "ucfTrainTestlist" / "testlist02.txt").unlink()
    with pytest.raises(ValueError, match=r"lacks testlist02\.txt"):
        read_archive(archive)
    with pytest.raises(ValueError, match=r"it has no classInd\.txt"):
        read_archive(archive, splits=archive / "UCF-101")


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


@pytest.mark.parametrize(
    ("names", "place", "message"),
    [
        ((), "nowhere", "does not exist; UCF101.rar"),
        (("UCF101.rar",), "UCF101.rar", "is still packed"),
        (("Archery/img_0001.jpg",), "", r"it holds pictures \(1 and more\)"),
        (("v_Archery_g01_c01.avi",), "", "side by side, each must be in the folder of its class"),
        (("Archery/v_Archery_g01_c01.mp4",), "", "video files of other formats"),
        (("classInd.txt",), "", "it is the folder of the lists"),
        ((), "", "it is empty"),
        (("notes/read.md",), "", "it holds notes and no folder of"),
    ],
)
def test_a_wrong_folder_is_told_by_what_it_holds(tmp_path, names, place, message):
    put(tmp_path, *names)
    with pytest.raises(ArchiveError, match=message):
        read_archive(tmp_path / place)


def test_what_is_no_half_of_a_split_is_refused(archive):
    whole_archive = read_archive(archive)
    for number in (0, 4):
        with pytest.raises(ValueError, match="splits 1, 2, 3 with halves train, test, all"):
            whole_archive.of_split(number, "train")
    assert len(classes()) == 101
