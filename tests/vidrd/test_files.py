"""A file is written whole or not at all, with the mode of any new file, and nothing is left of a failed attempt."""

import errno
import os
import subprocess
import sys

import pytest

from vidrd.files import locked, replacing, write_atomic


def test_a_device_or_a_pipe_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="cannot take the place of a device or a pipe"), replacing(tmp_path / "pipe"):
        raise AssertionError("nothing is begun")
    assert (tmp_path / "pipe").is_fifo()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_half(path, error, *, folder=False, **options):
    with replacing(path, **options) as part:
        assert part.parent == path.parent
        if folder:
            part.mkdir()
        (part / "file" if folder else part).write_text("half")
        raise error


@pytest.mark.parametrize(("content", "wanted"), [("é\n", "é\n".encode()), (b"\x00\xff", b"\x00\xff")])
def test_text_and_bytes_are_written_and_replaced(tmp_path, content, wanted):
    (tmp_path / "a").write_text("old")
    write_atomic(tmp_path / "a", content)
    assert (tmp_path / "a").read_bytes() == wanted
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_mode_is_that_of_a_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "a", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("sole_writer", [False, True])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, error, sole_writer):
    (tmp_path / "a").write_text("old")
    with pytest.raises(error):
        write_half(tmp_path / "a", error, sole_writer=sole_writer)
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError):
        write_half(tmp_path / "made", RuntimeError, folder=True)
    assert names(tmp_path) == []
    with replacing(tmp_path / "made") as part:
        part.mkdir()
        (part / "file").write_text("whole")
        assert names(tmp_path) == [part.name]
    assert (tmp_path / "made" / "file").read_text() == "whole"


def test_two_writers_of_a_file_do_not_meet_and_a_long_name_is_no_obstacle(tmp_path):
    path = tmp_path / ("é" * 120)
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # its block ended last
    assert names(tmp_path) == [path.name]


KILLED = """
import os, signal, sys
from pathlib import Path
from vidrd.files import replacing
with replacing(Path(sys.argv[1]), sole_writer=True) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_sole_writer_left_is_removed_by_the_next(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a")], check=False)
    assert names(tmp_path) == [".a.part"]
    with replacing(tmp_path / "a", sole_writer=True) as part:
        assert not part.exists()
        part.write_text("whole")
    assert names(tmp_path) == ["a"]


def test_a_folder_is_of_one_run_at_a_time(tmp_path):
    with locked(tmp_path), pytest.raises(ValueError, match="another run is writing into"), locked(tmp_path):
        raise AssertionError("two hold it")
    with locked(tmp_path):
        pass


@pytest.mark.parametrize(("code", "goes_on"), [(errno.ENOSYS, True), (errno.ENOLCK, True), (errno.EIO, False)])
def test_a_file_system_without_locks_stops_no_run(code, goes_on, tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    if goes_on:
        with locked(tmp_path):
            assert "has no locks: start no second run in this folder" in capsys.readouterr().err
    else:
        with pytest.raises(OSError, match=os.strerror(code)), locked(tmp_path):
            raise AssertionError("the fault was not told")
