"""Files of the full run are listed, fetched, continued, verified and never overwritten; no network is used."""

import hashlib
import json
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.__main__ import main
from bench.commands import weights
from bench.ucf101 import downloads
from bench.ucf101.downloads import REMOTE_FILES, RemoteFile, examine, fetch, named
from bench.ucf101.http import download
from tests.bench.ucf101.archives import fake_archive

CONTENT = bytes(range(256)) * 4000  # 1 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
BLOB = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves one file in good and bad ways, named by the path."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        if self.path == "/gone":
            self.send_error(404)
            return
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/file")
            self.end_headers()
            return
        body, kind = server.content, "application/octet-stream"
        if self.path == "/page":
            body, kind = b"<html>sign in</html>", "text/html; charset=utf-8"
        begin = 0
        span = self.headers.get("Range")
        same = self.headers.get("If-Range") in (None, server.tag)
        if span and same and self.path != "/whole":
            begin = int(span.removeprefix("bytes=").partition("-")[0])
            if begin >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - begin))
        self.send_header("Content-Type", kind)
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        rest = body[begin:]
        if self.path == "/breaks":
            rest = rest[: server.step]
        self.wfile.write(rest)
        self.close_connection = True


@pytest.fixture
def server():
    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.content, found.tag, found.asked, found.step = CONTENT, '"v1"', [], 300_000
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    found.url = f"http://127.0.0.1:{found.server_port}"
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


def needed(server, *paths, **more):
    return RemoteFile("sub/file.bin", "a file", "tests", "a page", "none", tuple(server.url + p for p in paths), **more)


def test_a_file_is_fetched_verified_and_renamed(server, tmp_path):
    one = needed(server, "/moved", size=len(CONTENT), sha256=SHA256, git_blob=BLOB)
    assert examine(tmp_path, [one])[0].state == "missing"
    assert fetch(one, tmp_path).state == "verified"
    assert (tmp_path / "sub/file.bin").read_bytes() == CONTENT
    assert sorted(p.name for p in (tmp_path / "sub").iterdir()) == ["file.bin"]
    count = len(server.asked)
    assert fetch(one, tmp_path).state == "verified"  # and it is not fetched again
    assert len(server.asked) == count


def test_a_broken_connection_goes_on_where_it_stopped(server, tmp_path):
    one = needed(server, "/breaks", sha256=SHA256)
    assert fetch(one, tmp_path).state == "verified"
    assert [span for _, span, _ in server.asked] == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_what_has_come_stays_for_the_next_command(server, tmp_path):
    server.step = 100_000
    one = needed(server, "/breaks", sha256=SHA256)
    with pytest.raises(ValueError, match="400000 bytes have come, the same command goes on from there"):
        fetch(one, tmp_path)
    local = examine(tmp_path, [one])[0]
    assert (local.state, local.remark) == ("missing", "400000 bytes of it were fetched")
    server.step = 10**9
    assert fetch(one, tmp_path).state == "verified"
    assert server.asked[-1][1:] == ("bytes=400000-", '"v1"')


def test_a_file_that_changed_meanwhile_is_begun_again(server, tmp_path):
    server.step = 100_000
    one = needed(server, "/breaks")
    with pytest.raises(ValueError, match="have come"):
        fetch(one, tmp_path)
    server.content, server.tag, server.step = CONTENT[::-1], '"v2"', 10**9
    assert fetch(one, tmp_path).state == "as fetched"
    assert (tmp_path / "sub/file.bin").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("path", ["/file", "/whole"])
@pytest.mark.parametrize(
    ("part", "tag"),
    [(CONTENT, '"v1"'), (CONTENT + b"more", '"v1"'), (CONTENT[:99], "")],
    ids=["whole", "longer", "of nobody"],
)
def test_parts_of_every_length_end_as_the_whole_file(server, tmp_path, path, part, tag):
    server.tag = tag
    target = tmp_path / "file.bin"
    (tmp_path / ".file.bin.part").write_bytes(part)
    (tmp_path / ".file.bin.part.json").write_text(json.dumps({"url": server.url + path, "validator": tag}))
    assert download(server.url + path, target).read_bytes() == CONTENT


@pytest.mark.parametrize("revision", [None, "main", "1234567", "g" * 40])
def test_a_repository_is_fetched_at_a_commit_only(server, tmp_path, revision):
    one = needed(server, f"/{downloads.REVISION}/x", "/file", sha256=SHA256)
    with pytest.raises(ValueError, match=r"from one commit.*40 digits by --sd-revision"):
        fetch(one, tmp_path, revision)
    assert not server.asked
    assert fetch(one, tmp_path, "0a" * 20).state == "verified"
    assert server.asked[0][0] == f"/{'0a' * 20}/x"
    moving = [
        each.file for each in REMOTE_FILES for url in each.urls if "huggingface" in url and "/resolve/main/" in url
    ]
    assert not moving


def test_the_next_address_is_tried(server, tmp_path):
    one = needed(server, "/gone", "/page", "/file", sha256=SHA256)
    assert fetch(one, tmp_path).state == "verified"
    assert [path for path, *_ in server.asked] == ["/gone", "/page", "/file"]


@pytest.mark.parametrize(
    ("path", "more", "message"),
    [
        ("/gone", {}, "the server says 404"),
        ("/page", {}, "got a web page instead of the file"),
        ("/file", {"size": 7}, "the server has 1024000 bytes, 7 were published"),
        ("/file", {"sha256": "0" * 64}, "its sha256 is not the published one"),
        ("/file", {"git_blob": "0" * 40}, "its git blob id is not the published one"),
    ],
)
def test_wrong_bytes_never_take_the_files_name(server, tmp_path, path, more, message):
    with pytest.raises(ValueError, match=f"sub/file.bin could not be fetched .*{message}.* from a page"):
        fetch(needed(server, path, **more), tmp_path)
    assert not (tmp_path / "sub/file.bin").exists()


def test_other_schemes_and_dead_servers_are_one_line(server, tmp_path):
    with pytest.raises(ValueError, match="only http and https"):
        download((tmp_path / "x").as_uri(), tmp_path / "y")
    server.server_close()
    with pytest.raises(ValueError, match="refused"):
        download("http://127.0.0.1:1/x", tmp_path / "y")


def test_a_file_without_a_checksum_is_held_to_what_was_first_fetched(server, tmp_path):
    one = needed(server, "/file")
    assert fetch(one, tmp_path).state == "as fetched"
    with (tmp_path / "sub/file.bin").open("ab") as file:
        file.write(b"x")
    local = examine(tmp_path, [one])[0]
    assert (local.state, local.remark) == ("wrong", "its bytes are not those that were first fetched")
    with pytest.raises(ValueError, match=r"is there but its bytes .*: move it away"):
        fetch(one, tmp_path)
    (tmp_path / "fetched.json").unlink()
    assert examine(tmp_path, [one])[0].state == "here"


@pytest.mark.parametrize(
    ("content", "more", "state", "remark"),
    [
        (b"", {}, "wrong", "it is empty"),
        (b"\n<!DOCTYPE html>", {}, "wrong", "it is a web page, not what the link promised"),
        (b"version https://git-lfs.github.com/spec/v1", {}, "wrong", "it is a pointer of Git LFS, not the file itself"),
        (b"abc", {"size": 4}, "wrong", "it has 3 bytes, 4 were published"),
        (CONTENT, {"sha256": SHA256, "git_blob": BLOB}, "verified", ""),
        (CONTENT, {"git_blob": BLOB}, "verified", ""),
        (CONTENT[:-1], {"git_blob": BLOB}, "wrong", "its git blob id is not the published one"),
        (CONTENT, {}, "here", "no checksum is published"),
    ],
)
def test_what_is_here_is_compared(tmp_path, content, more, state, remark):
    (tmp_path / "f").write_bytes(content)
    local = examine(tmp_path, [RemoteFile("f", "", "", "", "", **more)])[0]
    assert (local.state, local.remark, local.size) == (state, remark, len(content))


def test_names_are_files_folders_or_all():
    assert [each.file for each in named(["rgb_scratch"], REMOTE_FILES)] == [
        "rgb_scratch/model.ckpt.index", "rgb_scratch/model.ckpt.data-00000-of-00001",
    ]  # fmt: skip
    assert named(["mean2.npz", "mean2.npz"], REMOTE_FILES) == [
        each for each in REMOTE_FILES if each.file == "mean2.npz"
    ]
    assert all(each.urls for each in named(["all"], REMOTE_FILES))
    with pytest.raises(ValueError, match=r"no file 'mean.npz' is needed: did you mean 'mean2.npz'"):
        named(["mean.npz"], REMOTE_FILES)
    with pytest.raises(ValueError, match=r"vae_finetuned/config\.json cannot be fetched: .*drive\.google"):
        named(["vae_finetuned"], REMOTE_FILES)
    with pytest.raises(ValueError, match=r"UCF-101 is not fetched here: .*unrar"):
        named(["UCF-101"], REMOTE_FILES)


def test_the_list_is_whole_and_unambiguous():
    assert len({each.file for each in REMOTE_FILES}) == len(REMOTE_FILES)
    for each in REMOTE_FILES:
        assert each.what
        assert each.serves
        assert each.page
        assert each.licence
        assert each.urls or each.by_hand
        assert all(url.startswith("https://") for url in each.urls)


@pytest.fixture
def bench(monkeypatch, tmp_path, capsys):
    def call(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["bench", "weights", *arguments])
        return main(), *capsys.readouterr()

    return call


def test_the_command_lists_fetches_and_tells_what_is_wrong(bench, server, tmp_path, monkeypatch):
    here = (f"{server.url}/file",)
    changed = tuple(replace(each, urls=here) if each.file == "mean2.npz" else each for each in REMOTE_FILES)
    monkeypatch.setattr(weights, "REMOTE_FILES", changed)
    code, out, _ = bench("--fetch", "mean2.npz", "--json", "list.json")
    assert code == 0
    assert "assets/mean2.npz: as fetched, 1.0 MB" in out
    assert f"1 here, {len(REMOTE_FILES)} missing, 0 wrong" in out
    rows = {row["file"]: row for row in json.loads((tmp_path / "list.json").read_text())}
    assert rows.keys() == {*(each.file for each in REMOTE_FILES), "UCF-101"}
    assert rows["mean2.npz"]["state"] == "as fetched"
    gone = tuple(
        replace(each, urls=(f"{server.url}/gone",)) if each.file == "ModelT2V.pth" else each for each in changed
    )
    monkeypatch.setattr(weights, "REMOTE_FILES", gone)
    code, out, error = bench("--fetch", "ModelT2V.pth", "--fetch", "mean2.npz")
    assert code == 3
    assert "mean2.npz: as fetched" in out  # one that fails does not keep the others back
    assert error.startswith("bench: ModelT2V.pth could not be fetched")
    (tmp_path / "assets/i3d_torchscript.pt").write_bytes(b"short")
    fake_archive(tmp_path / "data")
    (tmp_path / "data/UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi").unlink()
    code, out, _ = bench("--ucf101", "data")
    assert code == 2
    assert "it has 5 bytes, 51235320 were published" in out
    assert "missing: ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi" in out
    assert "2 wrong" in out


def test_users_mistakes_are_one_line(bench):
    assert bench("--fetch", "i3d")[0] == 3
    code, out, error = bench("--json", "no/where.json")
    assert (code, out) == (3, "")
    assert error == "bench: --json no/where.json: the folder no does not exist, make it first\n"
