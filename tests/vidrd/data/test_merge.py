"""Data sets are joined clip by clip, bytes and columns as they were."""

import json
import os
import shutil
import tarfile

import numpy as np
import pytest

from tests.vidrd.data.clips import numbered
from vidrd.data.adapters import Where
from vidrd.data.latents import cache_latents
from vidrd.data.merge import merge
from vidrd.data.prepare import prepare
from vidrd.data.shard_task import PreparePlan
from vidrd.data.shards import ShardSet
from vidrd.data.shots import CutSettings
from vidrd.files import locked
from vidrd.video import write_video


def quiet(line):
    pass


def patterned(number, frames=8):
    """A video that looks like no other."""
    rng = np.random.default_rng(number)
    blocks = rng.integers(0, 255, (4, 6, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    return np.clip(numbered(frames) // 4 + blocks[None] // 2, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Two sets of three clips each, in shards of two, with equal file names; one clip is in both."""
    root = tmp_path_factory.mktemp("sets")
    for name, numbers in (("a", (0, 1, 2)), ("b", (2, 3, 4))):
        (root / f"in-{name}" / f"Class{name}").mkdir(parents=True)
        for place, number in enumerate(numbers):
            write_video(root / f"in-{name}" / f"Class{name}" / f"{place}.mp4", patterned(number), fps=8)
        plan = PreparePlan(
            "folder", Where(root / f"in-{name}", split=name), CutSettings(None, "none", min_frames=4), unit=2
        )
        prepare(plan, root / name, say=quiet)
    return root


def rows_of(folder):
    shards = ShardSet(folder)
    return [{**shards.row(row), "data": shards.data(row)} for row in range(len(shards))]


def test_bytes_and_columns_stay_and_repeats_go(sets, tmp_path):
    assert merge([sets / "a", sets / "b"], tmp_path / "c", say=quiet) == (5, 1)
    before, after = rows_of(sets / "a") + rows_of(sets / "b")[1:], rows_of(tmp_path / "c")
    moved = ("key", "shard", "offset")
    assert [{k: v for k, v in row.items() if k not in moved} for row in after] == [
        {k: v for k, v in row.items() if k not in moved} for row in before
    ]
    assert {label for row in after for label in row["labels"]} == {"Classa", "Classb"}
    assert {row["split"] for row in after} == {"a", "b"}
    assert all(row["licence"] and row["source"] == "folder" and row["captions"] for row in after)
    drops = [json.loads(line) for line in (tmp_path / "c" / "drops.jsonl").read_text().splitlines()]
    assert [drop["reason"] for drop in drops] == ["duplicate"]
    first = tmp_path / "c" / "shards" / "000000.tar"
    assert first.samefile(sets / "a" / "shards" / "000000.tar")  # nothing is even copied


def test_a_reader_of_the_tars_sees_what_the_index_says(sets, tmp_path):
    """Keys that both sets have are told apart in tars, sidecars and index alike."""
    merge([sets / "a", sets / "b"], tmp_path, say=quiet)
    seen = {}
    for tar in sorted((tmp_path / "shards").glob("*.tar")):
        with tarfile.open(tar) as archive:
            for info in archive:
                key, _, ending = info.name.partition(".")
                seen.setdefault(key, {})[ending] = archive.extractfile(info).read()
    rows = rows_of(tmp_path)
    assert {row["key"] for row in rows} == seen.keys()
    assert len(seen) == 5
    for row in rows:
        assert seen[row["key"]]["mp4"] == row["data"]
        about = json.loads(seen[row["key"]]["json"])
        assert (about["key"], about["labels"], about["sha256"]) == (row["key"], row["labels"], row["sha256"])


def test_merging_again_changes_nothing_and_follows_its_sources(sets, tmp_path):
    merge([sets / "a", sets / "b"], tmp_path / "c", say=quiet)
    index = (tmp_path / "c" / "index.parquet").read_bytes()
    merge([sets / "a", sets / "b"], tmp_path / "c", say=quiet)
    assert (tmp_path / "c" / "index.parquet").read_bytes() == index
    merge([tmp_path / "c", sets / "b"], tmp_path / "d", duplicates=-1, say=quiet)  # of a joined set too
    assert len(rows_of(tmp_path / "d")) == 5


@pytest.mark.parametrize("where", ["clip", "sidecar"])
def test_a_shard_that_is_cut_short_is_not_passed_on(sets, tmp_path, where):
    shutil.copytree(sets / "b", tmp_path / "b")
    shard = tmp_path / "b" / "shards" / "000000.tar"
    with tarfile.open(shard) as archive:
        last = archive.getmembers()[-1]
    os.truncate(shard, 5000 if where == "clip" else last.offset_data + last.size // 2)
    with pytest.raises(ValueError, match=r"000000\.tar is cut short: restore it"):
        merge([sets / "a", tmp_path / "b"], tmp_path / "c", say=quiet)


def test_a_folder_serves_one_command_at_a_time(sets, tmp_path):
    with locked(tmp_path), pytest.raises(ValueError, match="another run is writing into"):
        merge([sets / "a", sets / "b"], tmp_path, say=quiet)
    with locked(tmp_path), pytest.raises(ValueError, match="another run is writing into"):
        cache_latents(sets / "a", None, tmp_path, size=32, say=quiet)
    assert [path.name for path in tmp_path.rglob("*")] == [".lock"]


def test_what_cannot_be_joined_is_refused(sets, tmp_path):
    with pytest.raises(ValueError, match="two or more different data sets"):
        merge([sets / "a", sets / "a"], tmp_path, say=quiet)
    with pytest.raises(ValueError, match="is one of the sets"):
        merge([sets / "a", sets / "b"], sets / "a", say=quiet)
    with pytest.raises(ValueError, match="is no data set"):
        merge([sets / "a", tmp_path], tmp_path / "x", say=quiet)
    merge([sets / "a", sets / "b"], tmp_path / "c", say=quiet)
    with pytest.raises(ValueError, match="holds another data set"):
        merge([sets / "b", sets / "a"], tmp_path / "c", say=quiet)
    with pytest.raises(ValueError, match="a data set that `prepare` did not make"):
        prepare(PreparePlan("folder", Where(sets / "in-a")), tmp_path / "c", say=quiet)
