"""Files of the metrics appear whole or not at all, and devices keep what is written to them."""

import os

import pytest

from metrics.files import replacing, write_text


def fail_half_way(path):
    with replacing(path) as part:
        part.write_text("half of the n")
        raise OSError("the disk is full")


def test_an_error_leaves_the_old_file_and_nothing_next_to_it(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(OSError, match="full"):
        fail_half_way(tmp_path / "a.txt")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with replacing(tmp_path / "a.txt") as part:
        part.write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old"
        assert part.parent == tmp_path  # a rename across file systems would copy
    assert (tmp_path / "a.txt").read_text() == "new"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_text(tmp_path / "pipe", "words")
    assert os.read(reader, 100) == b"words"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
