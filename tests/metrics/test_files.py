"""Files of the metrics appear whole or not at all, devices stay what they are, and only regular files are read."""

import os
import zipfile

import numpy as np
import pytest

from metrics.files import load_npz, read_regular, read_text, replacing, write_text


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


def test_what_is_no_regular_file_is_neither_replaced_nor_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/null"):
        with pytest.raises(ValueError, match="is no regular file, and is not replaced"), replacing(path):
            pass
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ValueError, match="is no regular file"):
            read_regular(path, 100)
    with pytest.raises(OSError, match="No such device"):  # a pipe that nobody reads is not waited for
        write_text(tmp_path / "pipe", "words")
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "absent", 100)


def test_a_link_is_followed_and_a_long_name_has_a_part(tmp_path):
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"
    write_text(tmp_path / ("x" * 255), "long")
    assert len(list(tmp_path.iterdir())) == 3


def test_files_are_read_up_to_a_size_and_without_a_byte_order_mark(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfwords")
    assert read_text(tmp_path / "a.txt") == "words"
    assert read_regular(tmp_path / "a.txt", 8) == b"\xef\xbb\xbfwords"
    with pytest.raises(ValueError, match="has 8 bytes, at most 7 make sense"):
        read_regular(tmp_path / "a.txt", 7)


def test_arrays_are_read_if_they_are_as_large_as_they_say(tmp_path):
    np.savez(tmp_path / "a.npz", one=np.arange(3), two=np.zeros((2, 2)))
    assert {name: array.shape for name, array in load_npz(tmp_path / "a.npz").items()} == {"one": (3,), "two": (2, 2)}
    with pytest.raises(ValueError, match="it unpacks to"):
        load_npz(tmp_path / "a.npz", 50)
    np.savez(tmp_path / "objects.npz", one=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="holds objects, that is a pickle"):
        load_npz(tmp_path / "objects.npz")
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive, archive.open("a.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": (1 << 50,)})
    with pytest.raises(ValueError, match="does not have the size that its shape"):
        load_npz(tmp_path / "lie.npz")
