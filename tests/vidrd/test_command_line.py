import os
import stat
from pathlib import Path
from typing import Annotated

import pytest

from bench.results.records import write_atomic
from vidrd.command_line import (
    Count,
    CountOrNone,
    ExistingFile,
    ExistingFolder,
    Margin,
    Minutes,
    PositiveMargin,
    Seconds,
    Seed,
    TargetFile,
    TargetFolder,
    check,
)


def verb(
    count: Count | None = None,
    none: CountOrNone = 0,
    seed: Seed = 0,
    timeout: Seconds | None = None,
    max_minutes: Minutes | None = None,
    margin: Margin = 0.1,
    quality_margin: PositiveMargin = 0.1,
    any_: float = 0.0,
    many: tuple[int, ...] = (),
    folder: ExistingFolder | None = None,
    file: ExistingFile | None = None,
    out: TargetFolder = Path("runs") / "a",
    json_: Annotated[TargetFile | None, "json"] = None,
    junit: TargetFile | None = None,
) -> int:
    """Do nothing."""
    return 0


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("count", (0, -1, 10**30), (1, 8)),
        ("none", (-1,), (0, 1)),
        ("seed", (-1, 10**19), (0, 10**18 - 1)),
        ("timeout", (0.0, -1.0, NAN, INF), (0.1, 600)),
        ("max_minutes", (-5.0, NAN, INF), (0.0, 5)),
        ("margin", (-1.0, NAN, INF, -1e-9), (0.0, 0.03)),
        ("quality_margin", (0.0, -1.0, NAN), (1e-9, 1)),
        ("any_", (NAN, INF, -INF), (-1e9, 0.0)),
        ("many", ((1, 10**19),), ((), (1, -1))),
    ],
)
def test_numbers_are_held_to_their_range_and_the_option_is_named(name, wrong, right):
    for value in wrong:
        with pytest.raises(ValueError, match=f"^--{name.rstrip('_').replace('_', '-')} is .*; got "):
            check(verb, {name: value})
    for value in right:
        check(verb, {name: value})


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


def tree(folder):
    return sorted((str(path), path.lstat().st_mode, path.lstat().st_mtime_ns) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("name", "path", "said"),
    [
        ("out", "file", "this is no folder"),
        ("out", "file/x", "the folder file is no folder"),
        ("out", "no/where", "the folder no does not exist, make it first"),
        ("out", "pipe", "this is no folder"),
        ("out", "loop", "this is no folder"),
        ("out", "/proc/x", "nothing can be written into /proc"),
        ("json_", "folder", "this is a folder, name a file"),
        ("json_", "loop", "this link leads to itself"),
        ("json_", "no/where", "the folder no does not exist, make it first"),
        ("json_", "file/x", "the folder file is no folder"),
        ("json_", "/proc/x.json", "nothing can be written into /proc"),
        ("folder", "file", "there is no such folder"),
        ("folder", "nothing", "there is no such folder"),
        ("file", "folder", "there is no such file"),
    ],
)
def test_places_are_looked_at_before_anything_is_written(here, name, path, said):
    before = tree(here)
    with pytest.raises(ValueError, match=f"^--{name.rstrip('_')} {path}: {said}"):
        check(verb, {name: Path(path)})
    assert tree(here) == before


def test_places_that_will_do(here):
    before = tree(here)
    for path in ("new", "folder", ".", "folder/new"):
        check(verb, {"out": Path(path)})
    check(verb, {"out": Path("runs") / "a"})  # the default's parents are made
    for path in ("new.json", "file", "pipe", "/dev/null", "/dev/stdout"):
        check(verb, {"json_": Path(path)})
    assert tree(here) == before
    with pytest.raises(ValueError, match=r"--json and --junit both name .*file: give each a file of its own"):
        check(verb, {"json_": Path("file"), "junit": here / "folder" / ".." / "file"})


def test_a_folder_that_nobody_may_write_into(here, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    for name, path in (("out", "new"), ("json_", "new.json"), ("out", "folder")):
        with pytest.raises(ValueError, match=r"nothing can be written into .* \(permission denied\)"):
            check(verb, {name: Path(path)})


def test_a_device_or_a_pipe_is_written_into_and_never_replaced(tmp_path):
    node = tmp_path / "null"
    try:
        os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        node = Path("/dev/null")
    write_atomic(node, "text")
    assert stat.S_ISCHR(node.stat().st_mode)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomic(pipe, "text")
    assert os.read(reader, 10) == b"text"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    with pytest.raises(OSError, match="No such device or address"):  # nobody reads: no wait for ever
        write_atomic(pipe, "text")


def test_half_a_file_is_taken_away_and_a_link_stays_a_link(tmp_path, monkeypatch):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(tmp_path / "real", "newer")
    assert (tmp_path / "real").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
