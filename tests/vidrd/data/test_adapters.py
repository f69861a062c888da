"""Each known layout becomes records: paths, classes, captions, licence and source."""

import io
import json
import os
import re
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vidrd.data.adapters import ADAPTERS, Where, records
from vidrd.data.media import UnreadableError, fetch, read_image
from vidrd.data.record import Drop, Record


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def rows(name, root, **where):
    return list(records(name, Where(root, **where)))


def test_kinetics_names_files_by_id_and_time(tmp_path):
    touch(tmp_path, "train/petting cat (indoor)/abc-_1_000010_000020.mp4", "xyz.mp4")
    (tmp_path / "train.csv").write_text(
        'label,youtube_id,time_start,time_end,split\n"petting cat (indoor)",abc-_1,10,20,train\n'
        '"doing ""x"", well",xyz,0,10,train\nyoga,gone,5,15,train\nyoga,other,5,15,val\n'
    )
    a, b, c = rows("kinetics700", tmp_path, split="train")
    assert a.uri.endswith("abc-_1_000010_000020.mp4")
    assert a.labels == ("petting cat (indoor)",)
    assert b.uri.endswith("xyz.mp4")
    assert b.labels == ('doing "x", well',)
    assert c.uri.endswith("gone_000005_000015.mp4")  # found missing when it is read
    assert [r.key for r in (a, b, c)] == [
        "00000000_abc-_1_000010_000020", "00000001_xyz_000000_000010", "00000002_gone_000005_000015"
    ]  # fmt: skip
    assert all(r.source == "kinetics" and "CC BY" in r.licence for r in (a, b, c))


@pytest.mark.parametrize("split", ["val", "validate", "validation"])
def test_the_split_for_validation_has_three_names(tmp_path, split):
    (tmp_path / "kinetics700_2020").mkdir()
    for name in ("train", "validate", "test"):
        row = f"yoga,of-{name},5,15,{name}\n"
        (tmp_path / "kinetics700_2020" / f"{name}.csv").write_text("label,youtube_id,time_start,time_end,split\n" + row)
    (record,) = rows("kinetics700", tmp_path, split=split)
    assert record.key.endswith("of-validate_000005_000015")


@pytest.mark.parametrize("folder", ["Moments_in_Time_Raw", "Moments_in_Time_Mini", "Moments_in_Time_256x256_30fps"])
def test_moments_lies_in_the_folder_of_its_release(tmp_path, folder):
    touch(tmp_path, f"{folder}/validation/bowling/b.mp4")
    (tmp_path / folder / "validationSet.csv").write_text("bowling/b.mp4,bowling,2,1\n")
    (record,) = rows("moments", tmp_path)
    assert record.uri.endswith(f"{folder}/validation/bowling/b.mp4")
    assert record.labels == ("bowling",)


def test_kinetics_without_its_columns_is_refused(tmp_path):
    (tmp_path / "train.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="must have columns label, youtube_id"):
        rows("kinetics700", tmp_path)


def test_moments_has_no_header_and_the_class_is_the_folder(tmp_path):
    touch(tmp_path, "training/adult+female+singing/a.mp4")
    (tmp_path / "trainingSet.csv").write_text("adult+female+singing/a.mp4,3,0\nbowling/b.mp4,2,1\n")
    a, b = rows("moments", tmp_path)
    assert a.labels == ("adult female singing",)
    assert a.uri.endswith("training/adult+female+singing/a.mp4")
    assert b.labels == ("bowling",)
    assert a.split == "training"


def test_videolt_has_many_labels(tmp_path):
    touch(tmp_path, "videos/id1.mp4")
    (tmp_path / "train.lst").write_text("id1 3,17\nid2\t4\n")
    (tmp_path / "labels.txt").write_text("\n".join(f"class {i}" for i in range(20)))
    a, b = rows("videolt", tmp_path, split="train")
    assert a.labels == ("class 3", "class 17")
    assert a.uri.endswith("videos/id1.mp4")
    assert b.labels == ("class 4",)
    (tmp_path / "labels.txt").unlink()
    with pytest.raises(ValueError, match=r"classes of .*train\.lst are numbers: put count-labels-train\.lst"):
        rows("videolt", tmp_path)
    (tmp_path / "count-labels-train.lst").write_text("3DPainting 3 137.0\nSki Jump 17 20.0\n")
    a, b = rows("videolt", tmp_path, split="train")
    assert a.labels == ("3DPainting", "Ski Jump")
    assert b.reason == "unreadable"
    assert "train.lst, line 2: no class has the number 4" in b.detail


def test_webvid_captions_and_pages(tmp_path):
    touch(tmp_path, "videos/012_050/7.mp4")
    (tmp_path / "train.csv").write_text(
        'videoid,contentUrl,duration,page_dir,name\n7,http://x,PT10S,012_050,"A dog,  running."\n8,u,PT1S,000_001,Sea\n'
    )
    a, b = rows("webvid", tmp_path)
    assert a.captions == ("A dog, running.",)
    assert a.uri.endswith("videos/012_050/7.mp4")
    assert b.uri.endswith("videos/000_001/8.mp4")


def test_tgif_gathers_the_sentences_of_a_gif(tmp_path):
    touch(tmp_path, "gifs/tumblr_a.gif")
    lines = ["https://x/tumblr_a.gif\ta man waves", "https://x/tumblr_b.gif\ta cat", "https://x/tumblr_a.gif\twaving"]
    (tmp_path / "tgif-v1.0.tsv").write_text("\n".join(lines))
    a, b = rows("tgif", tmp_path)
    assert a.captions == ("a man waves", "waving")
    assert a.uri.endswith("gifs/tumblr_a.gif")
    assert b.captions == ("a cat",)


def test_vatex_keeps_english_and_finds_whole_videos(tmp_path):
    touch(tmp_path, "a_-b_000010_000020.mp4", "ccc.mp4")
    entries = [
        {"videoID": "a_-b_000010_000020", "enCap": ["one", "two"], "chCap": ["一"]},
        {"videoID": "ccc_000000_000010", "enCap": ["three"]},
    ]
    (tmp_path / "vatex_training_v1.0.json").write_text(json.dumps(entries))
    a, b = rows("vatex", tmp_path)
    assert a.captions == ("one", "two")
    assert b.uri.endswith("ccc.mp4")


def test_ucf101_follows_the_official_lists(tmp_path, real_clips):
    whole = rows("ucf101", real_clips)
    assert len(whole) == len(list((real_clips / "UCF-101").glob("*/*.avi")))
    assert all(record.labels[0] in record.uri for record in whole)
    train = rows("ucf101", real_clips, split="trainlist01")
    test = rows("ucf101", real_clips, split="testlist01")
    assert (len(train), len(test)) == (9537, 3783)
    assert not any("\r" in record.uri for record in train + test)  # the lists end their lines with CRLF
    assert any("HandstandPushups/v_HandStandPushups_" in record.uri for record in train)


def test_ucf101_takes_classes_of_several_words(tmp_path):
    touch(tmp_path, "UCF-101/Apply Lipstick/v_1 a.avi")
    (tmp_path / "mine.txt").write_text("Apply Lipstick/v_1 a.avi 12 \r\n")
    for some in (rows("ucf101", tmp_path), rows("ucf101", tmp_path, split="mine", annotations=tmp_path / "mine.txt")):
        assert [(record.uri, record.labels) for record in some] == [
            (str(tmp_path / "UCF-101" / "Apply Lipstick" / "v_1 a.avi"), ("Apply Lipstick",))
        ]


def test_no_split_means_all_and_a_split_only_its_own(tmp_path):
    lists = {
        "moments": {"trainingSet.csv": "a/1.mp4,3,0\n", "validationSet.csv": "a/2.mp4,3,0\n"},
        "videolt": {"train.lst": "1 3\n", "validate.lst": "2 4\n", "count-labels-train.lst": "A 3 1\nB 4 1"},
        "vatex": {
            "vatex_training_v1.0.json": '[{"videoID": "1", "enCap": ["x"]}]',
            "vatex_validation_v1.0.json": '[{"videoID": "2", "enCap": ["y"]}]',
        },
        "webvid": {f"results_2M_{part}.csv": f"videoid,name\n{i},x\n" for i, part in ((1, "train"), (2, "val"))},
        "kinetics700": {
            f"{part}.csv": f"label,youtube_id,time_start,time_end,split\nx,{i},0,10,{part}\n"
            for i, part in ((1, "train"), (2, "val"))
        },
    }
    for name, files in lists.items():
        root = tmp_path / name
        root.mkdir()
        for file, text in files.items():
            (root / file).write_text(text)

        def stems(split, name=name, root=root):
            return [Path(row.uri).stem.partition("_")[0] for row in rows(name, root, split=split)]

        assert stems("") == ["1", "2"], name
        assert stems("train") == ["1"], name
        assert stems("val") == stems("validation") == ["2"], name
        assert rows(name, root, split="val")[0].split.startswith("val"), name
        with pytest.raises(ValueError, match=r"splits are train, val.*: got tset"):
            rows(name, root, split="tset")


def test_tgif_splits_are_lists_of_urls(tmp_path):
    (tmp_path / "tgif-v1.0.tsv").write_text("https://x/a.gif\tone\nhttps://x/b.gif\ttwo\n")
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "val.txt").write_text("https://x/b.gif\n")
    (row,) = rows("tgif", tmp_path, split="val")
    assert (row.captions, row.split) == (("two",), "val")
    with pytest.raises(ValueError, match=r"split test needs its list of urls.*missing"):
        rows("tgif", tmp_path, split="test")


def test_of_whole_videos_only_the_labelled_seconds_are_meant(tmp_path):
    touch(tmp_path, "abc.mp4", "cut_000010_000020.mp4")
    (tmp_path / "train.csv").write_text(
        "label,youtube_id,time_start,time_end,split\nx,abc,12,22,train\nx,cut,10,20,train\n"
    )
    whole, cut = rows("kinetics700", tmp_path)
    assert (whole.seconds, cut.seconds) == ((12.0, 22.0), None)
    entries = [
        {"videoID": f"{name}_0000{t}", "enCap": ["x"]} for name, t in (("abc", "03_000013"), ("cut", "10_000020"))
    ]
    (tmp_path / "vatex_training_v1.0.json").write_text(json.dumps(entries))
    whole, cut = rows("vatex", tmp_path)
    assert (whole.seconds, cut.seconds) == ((3.0, 13.0), None)


def test_official_places_and_names_of_lists(tmp_path):
    """As the sets' makers pack them: folders of their own, "validate", lists of tests without answers."""
    header = "label,youtube_id,time_start,time_end,split\n"
    files = {
        "kinetics700": {
            "kinetics700_2020/train.csv": f"{header}x,1,0,10,train\n",
            "kinetics700_2020/validate.csv": f"{header}x,2,0,10,validate\n",
            "kinetics700_2020/test.csv": "youtube_id,time_start,time_end,split\n3,0,10,test\n",
        },
        "moments": {
            "Moments_in_Time_Raw/trainingSet.csv": "adult+male/1.mp4,adult+male,4,0\n",
            "Moments_in_Time_Raw/training/adult+male/1.mp4": "",
        },
        "webvid": {
            "metadata/results_10M_train.csv": "videoid,contentUrl,duration,page_dir,name\n1,u,PT1S,000_001,Sea\n",
            "data/videos/000_001/1.mp4": "",
        },
        "vatex": {
            "vatex_public_test_english_v1.1.json": '[{"videoID": "1_000000_000010", "enCap": ["x"]}, {"videoID": "2"}]'
        },
        "kinetics400": {
            "annotations/kinetics_train.csv": "label,youtube_id,time_start,time_end,split,is_cc\nx,1,0,10,train,0\n",
            "annotations/kinetics-400_val.csv": "label,youtube_id,time_start,time_end,split,is_cc\nx,2,0,10,val,1\n",
        },
        "moments apart": {
            "annotations/validationSet.csv": "yawning/1.mp4,yawning,4,0\n",
            "videos/validation/yawning/1.mp4": "",
        },
        "tgif": {"data/tgif-v1.0.tsv": "https://x/1.gif\ta cat", "data/splits/val.txt": "https://x/1.gif"},
    }
    for name, texts in files.items():
        for file, text in texts.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(text)

    def stems(name, **where):
        return [Path(row.uri).stem.partition("_")[0] for row in rows(name, tmp_path / name, **where)]

    assert stems("kinetics700") == ["1", "2", "3"]
    assert stems("kinetics700", split="val") == ["2"]
    assert rows("kinetics700", tmp_path / "kinetics700", split="test")[0].labels == ()
    (moment,) = rows("moments", tmp_path / "moments")
    assert moment.labels == ("adult male",)
    assert Path(moment.uri).is_file()
    assert [row.split for row in rows("kinetics700", tmp_path / "kinetics400")] == ["train", "val"]
    assert Path(rows("moments", tmp_path / "moments apart", split="val")[0].uri).is_file()
    assert Path(rows("webvid", tmp_path / "webvid")[0].uri).is_file()
    assert stems("vatex", split="test") == ["1", "2"]
    assert stems("tgif", split="val") == ["1"]


def test_a_named_list_lies_here_or_below_the_root(tmp_path, monkeypatch):
    touch(tmp_path, "here/x.txt")
    monkeypatch.chdir(tmp_path / "here")
    header = "label,youtube_id,time_start,time_end,split\n"
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "some.csv").write_text(f"{header}x,root,0,10,train\n")
    asked = {"annotations": Path("lists/some.csv")}
    assert "root" in rows("kinetics700", tmp_path, **asked)[0].key
    (tmp_path / "here" / "lists").mkdir()
    (tmp_path / "here" / "lists" / "some.csv").write_text(f"{header}x,here,0,10,train\n")
    assert "here" in rows("kinetics700", tmp_path, **asked)[0].key
    with pytest.raises(ValueError, match=r"annotation file is missing: none\.csv, here or in "):
        rows("kinetics700", tmp_path, annotations=Path("none.csv"))


def test_videos_that_nothing_here_reads_are_drops_and_no_secret(tmp_path):
    touch(tmp_path, "a/x.WMV", "a/y.ts", "a/z.avif", "a/notes.md")
    some = rows("folder", tmp_path)
    assert [Path(row.uri).name for row in some if isinstance(row, Record)] == ["y.ts"]
    assert [detail.partition(": ")[2] for detail in details(some)] == [
        ".WMV files are not read, convert it", ".avif files are not read, convert it"
    ]  # fmt: skip


def test_a_listed_file_that_is_not_read_is_not_missing_too(tmp_path):
    touch(tmp_path, "a.flv", "sub/b.wmv", "c.mp4")
    lost = [f"gone{number}.mp4" for number in range(5)]
    named = ["a.flv", "b", *lost, "c.mp4"]
    (tmp_path / "captions.csv").write_text("file,caption\n" + "".join(f"{name},x\n" for name in named))
    *dropped, kept = rows("folder", tmp_path)
    assert kept.captions == ("x",)
    reasons = [(drop.reason, drop.detail.removeprefix(f"{tmp_path}/")) for drop in dropped]
    assert reasons == [
        ("unreadable", "a.flv: .flv files are not read, convert it"),
        ("unreadable", "sub/b.wmv: .wmv files are not read, convert it"),
        *(("missing", f"the list names {name}") for name in lost),  # in the list's order
    ]


def details(some):
    return [row.detail for row in some if isinstance(row, Drop)]


def test_people_s_text_has_marks_and_odd_line_ends_and_breaks_rows_only(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4", "c.mp4", "d.mp4")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\xe2\x80\xa8two\r\nthree\xc2\x85four\n")
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    (tmp_path / "captions.csv").write_bytes(
        b'\xef\xbb\xbffile,caption\r\nc.mp4,"a man, tall"\r\nc.mp4,a man, short\r\nc.mp4\r\nd.mp4,caf\xe9\r\n'
        b"c.mp4," + b"x" * 140_000 + b"\r\nc.mp4,last\r\nnone.mp4,gone\r\n"
    )
    some = rows("folder", tmp_path)
    by = {Path(row.uri).stem: row for row in some if isinstance(row, Record)}
    assert by["a"].captions == ("one two", "three four")  # blanks of any kind are one blank
    assert by["c"].captions == ("a man, tall", "last")
    assert "b" not in by
    faults = "\n".join(details(some))
    for line, fault in ((3, "3 fields, the header 2"), (4, "1 fields"), (5, "no UTF-8"), (6, "field larger than")):
        assert re.search(rf"captions\.csv, line {line}: .*{fault}", faults), (line, faults)
    assert re.search(r"b\.mp4: .*utf-8.* codec can't decode", faults)
    assert "the list names none.mp4" in faults


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"file": "a.mp4", "caption": null}', "a caption must be text, or a list of texts: got None"),
        ('{"file": "a.mp4", "caption": 3}', "got 3"),
        ('{"file": "a.mp4", "caption": []}', r"got \[\]"),
        ('{"file": "a.mp4", "caption": ["x", 4]}', "got .*x"),
        ('{"file": ["a.mp4"], "caption": "x"}', "file must be text"),
        ('{"caption": "x"}', "file must be text"),
        ("[1]", "a row must be an object: got list"),
        ("7", "a row must be an object: got int"),
        ("{", "no JSON"),
        ("[" * 200_000, "nested too deep"),
    ],
)
def test_a_broken_line_of_json_is_one_drop(tmp_path, line, fault):
    touch(tmp_path, "a.mp4")
    good = json.dumps({"file": "a.mp4", "caption": "next\u2028line"}, ensure_ascii=False)
    (tmp_path / "captions.jsonl").write_text(f"\ufeff{good}\n{line}\n")
    drop, record = rows("folder", tmp_path)
    assert re.search(rf"captions\.jsonl, line 2: .*{fault}", drop.detail)
    assert record.captions == ("next line",)


def test_several_captions_in_a_list_are_several_captions(tmp_path):
    touch(tmp_path, "a.mp4")
    (tmp_path / "captions.jsonl").write_text('{"file": "a.mp4", "caption": ["x", "y"]}\n')
    assert rows("folder", tmp_path)[0].captions == ("x", "y")


def test_rows_of_known_sets_are_dropped_one_by_one(tmp_path):
    header = "label,youtube_id,time_start,time_end,split\n"
    (tmp_path / "train.csv").write_text(f"{header}x,a,nan,10,train\nx,b,0,-1,train\nx,c,0,10,train\nx,,0,10,train\n")
    some = rows("kinetics700", tmp_path)
    assert [isinstance(row, Drop) for row in some] == [True, True, False, True]
    assert "train.csv, line 2: time_start must be seconds: got 'nan'" in some[0].detail
    (tmp_path / "vatex_training_v1.0.json").write_text('[3, {"videoID": 7}, {"videoID": "a", "enCap": ["x"]}]')
    assert [isinstance(row, Drop) for row in rows("vatex", tmp_path)] == [True, True, False]
    (tmp_path / "trainingSet.csv").write_text("noclass.mp4,1\na/b.mp4,1\n")
    assert [isinstance(row, Drop) for row in rows("moments", tmp_path)] == [True, False]
    (tmp_path / "tgif-v1.0.tsv").write_text("https://x/a.gif a man\nhttps://x/b.gif\ta cat\n")
    assert [isinstance(row, Drop) for row in rows("tgif", tmp_path)] == [True, False]


def test_names_that_are_no_utf8_are_drops(tmp_path):
    name = os.fsdecode(b"caf\xe9.mp4")
    touch(tmp_path, name, "a.mp4")
    a, drop = rows("folder", tmp_path)
    assert a.uri.endswith("a.mp4")
    assert "caf\\udce9.mp4" in drop.detail
    json.dumps(drop.detail).encode()
    (tmp_path / "captions.jsonl").write_text('{"file": "a.mp4", "caption": "\\ud800"}')
    assert "must be UTF-8" in details(rows("folder", tmp_path))[0]


def test_files_outside_the_root_are_dropped_unless_asked_for(tmp_path):
    touch(tmp_path, "secret/1.jpg", "set/x.txt")
    pq.write_table(pa.table({"path": ["../secret/1.jpg", None], "text": ["a", "b"]}), tmp_path / "set" / "t.parquet")
    first, second = rows("parquet", tmp_path / "set")
    assert "lies outside" in first.detail
    assert "path must be text: got None" in second.detail
    assert isinstance(rows("parquet", tmp_path / "set", outside=True)[0], Record)
    (tmp_path / "set" / "trainingSet.csv").write_text("../secret/1.jpg,1\n")
    assert "lies outside" in rows("moments", tmp_path / "set")[0].detail


def test_a_table_that_is_broken_inside_costs_its_rows(tmp_path):
    pq.write_table(pa.table({"image": [picture() * 30] * 2, "text": ["a", "b"]}), tmp_path / "t.parquet")
    first, second = rows("parquet", tmp_path)
    data = bytearray((tmp_path / "t.parquet").read_bytes())
    data[4:2000] = bytes(1996)
    (tmp_path / "t.parquet").write_bytes(data)
    for record in (first, second):
        with pytest.raises(UnreadableError, match=r"t\.parquet cannot be read"):
            fetch(record.uri)


def test_every_picture_of_a_tar_is_a_record_or_a_drop(tmp_path):
    data = picture()
    names = ["a.0.png", "b.png", "b.1.png", "c.txt", "d.jpg", "d.jpg", ".png", "e.cls"]
    write_tar(tmp_path / "s.tar", [(name, data) for name in names])
    with tarfile.open(tmp_path / "s.tar", "a") as tar:
        link = tarfile.TarInfo("f.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    some = rows("webdataset", tmp_path)
    kept = [row for row in some if isinstance(row, Record)]
    assert [fetch(row.uri) == data for row in kept] == [True] * 3
    assert [row.key.split("_", 1)[1] for row in kept] == ["s_a", "s_b", "s_d"]
    faults = "\n".join(details(some))
    for fault in (r"b\.1\.png: a key stands for one", r"c: it has no picture", r"d\.jpg: the tar has two members",
                  r"\.png: it is no regular member with a name", r"f\.jpg: it is no regular member"):  # fmt: skip
        assert re.search(fault, faults), (fault, faults)
    assert len(some) == 3 + 5


def test_sizes_that_a_tar_declares_are_not_believed(tmp_path):
    write_tar(tmp_path / "s.tar", [("a.png", picture())])
    whole = (tmp_path / "s.tar").read_bytes()
    info = tarfile.TarInfo("b.png")
    info.size = 2**40
    header = info.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "s.tar").write_bytes(header + whole)
    some = rows("webdataset", tmp_path)
    with pytest.raises(UnreadableError, match="ends before its member does"):
        fetch(next(row.uri for row in some if isinstance(row, Record)))
    info.name = "a.json"
    (tmp_path / "s.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + whole)
    assert all(isinstance(row, Drop) for row in rows("webdataset", tmp_path))


def picture():
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_a_folder_with_captions_beside_in_a_list_or_none(tmp_path):
    touch(tmp_path, "a.mp4", "ApplyMakeup/b.mp4", "c.png", "d.mp4", "notes.md")
    (tmp_path / "a.txt").write_text("first\n\nsecond\n")
    (tmp_path / "captions.jsonl").write_text('{"file": "c.png", "caption": "a picture"}\n')
    by = {record.uri.rsplit("/", 1)[-1]: record for record in rows("folder", tmp_path)}
    assert set(by) == {"a.mp4", "b.mp4", "c.png", "d.mp4"}
    assert by["a.mp4"].captions == ("first", "second")
    assert by["b.mp4"].labels == ("ApplyMakeup",)
    assert by["c.png"].captions == ("a picture",)
    assert by["c.png"].media == "image"
    assert by["d.mp4"].labels == by["d.mp4"].captions == ()


def test_image_tars_are_read_in_place(tmp_path):
    data = picture()
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        for name, held in (("x.png", data), ("x.txt", b"a field\n"), ("y.json", b'{"caption": "b"}'), ("y.png", data)):
            info = tarfile.TarInfo(name)
            info.size = len(held)
            tar.addfile(info, io.BytesIO(held))
    a, b = rows("webdataset", tmp_path)
    assert (a.captions, b.captions) == (("a field",), ("b",))
    assert a.media == "image"
    assert fetch(a.uri) == data
    assert read_image(fetch(b.uri)).shape == (40, 60, 3)


def write_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, held in files:
            info = tarfile.TarInfo(name)
            info.size = len(held)
            tar.addfile(info, io.BytesIO(held))


def test_keys_in_tars_are_webdatasets_own(tmp_path):
    """Folders with dots and names that begin with one; the ending is all behind the last name's first dot."""
    data = picture()
    names = ["./000001", "v1.0/part/000002", "plain", "a/b"]
    write_tar(tmp_path / "s.tar", [(f"{n}{e}", data if e == ".png" else n.encode()) for n in names
                                   for e in (".png", ".txt")] + [("a/.hidden", b""), ("none", b"")])  # fmt: skip
    records = rows("webdataset", tmp_path)
    assert [row.captions for row in records] == [(name,) for name in names]
    assert len({row.key for row in records}) == 4
    assert all(fetch(row.uri) == data for row in records)


def test_broken_texts_and_cut_tars_are_drops(tmp_path):
    data = picture()
    texts = (b'{"caption": "fine"}', b'{"caption": ', b"[1]", b'{"caption": 3, "text": "other"}')
    files = [(f"{i}.{e}", held) for i, text in enumerate(texts) for e, held in (("png", data), ("json", text))]
    write_tar(tmp_path / "a.tar", files)
    write_tar(tmp_path / "b.tar", [*files[:2], ("9.png", data), ("9.txt", b"last")])
    whole = (tmp_path / "b.tar").read_bytes()
    (tmp_path / "b.tar").write_bytes(whole[: whole.index(b"9.png") + 700])
    (tmp_path / "c.tar").write_bytes(b"no tar at all" * 100)
    records = rows("webdataset", tmp_path)
    kept = [row for row in records if isinstance(row, Record)]
    assert [row.captions for row in kept] == [("fine",), ("other",), ("fine",), ()]
    with pytest.raises(UnreadableError, match="ends before its member does"):
        fetch(kept[-1].uri)
    drops = [row for row in records if isinstance(row, Drop)]
    assert [drop.reason for drop in drops] == ["unreadable"] * 4
    assert ["a_1" in drops[0].key, "b" in drops[2].key, "c" in drops[3].key] == [True] * 3
    assert "no whole tar" in drops[2].detail


def test_parquet_with_bytes_or_paths(tmp_path):
    data = picture()
    (tmp_path / "p.png").write_bytes(data)
    with_bytes = pa.table({"image": [{"bytes": data, "path": None}] * 3, "caption": ["a", "b", "c"]})
    pq.write_table(with_bytes, tmp_path / "a.parquet", row_group_size=2)
    pq.write_table(pa.table({"file": ["p.png"], "text": ["d"]}), tmp_path / "b.parquet")
    records = rows("parquet", tmp_path)
    assert [record.captions[0] for record in records] == ["a", "b", "c", "d"]
    assert fetch(records[2].uri) == data
    assert read_image(fetch(records[3].uri)).shape == (40, 60, 3)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "c.parquet")
    with pytest.raises(ValueError, match="must have a column caption or text"):
        rows("parquet", tmp_path)


@pytest.mark.parametrize("name", sorted(set(ADAPTERS) - {"folder", "webdataset", "parquet", "ucf101"}))
def test_a_missing_list_is_one_line(name, tmp_path):
    with pytest.raises(ValueError, match=r"annotation file is missing.*--annotations"):
        rows(name, tmp_path)


def test_unknown_formats_and_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="format is one of kinetics700"):
        rows("imagenet", tmp_path)
    with pytest.raises(ValueError, match="does not exist"):
        rows("folder", tmp_path / "none")


def test_the_document_and_the_command_know_every_format():
    from typing import get_args, get_type_hints

    from vidrd.data.captioners import CAPTIONERS
    from vidrd.data.commands import Prepare

    hints = get_type_hints(Prepare)
    assert set(get_args(hints["format"])) == set(ADAPTERS)
    assert set(get_args(hints["captioner"])) == set(CAPTIONERS)
    document = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
    named = {line.split("`")[1] for line in document.splitlines() if line.startswith("| `")}
    assert set(ADAPTERS) | set(CAPTIONERS) <= named
