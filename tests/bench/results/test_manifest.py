"""Runs that were damaged or edited by hand: one line and exit code 3, from every command that reads them."""

import json
import re
import sys

import pytest

from bench import __main__ as bench
from bench.regression.compare_runs import load
from bench.results.manifest import read_manifest
from bench.results.records import read
from reports import __main__ as reports
from tests.bench.harness.test_runner import go


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that is as it was written."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    go(folder, "how=fine,raise", "size=1")
    return folder


@pytest.fixture
def run(whole, tmp_path):
    """A copy of its two files."""
    for name in ("manifest.json", "records.jsonl"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    return tmp_path


def fields(content, path=()):
    """The paths to all that a JSON value holds."""
    yield path
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield from fields(value, (*path, key))


def planted(content, path, value):
    """A copy with another value at a path."""
    if not path:
        return value
    copy = dict(content) if isinstance(content, dict) else list(content)
    copy[path[0]] = planted(content[path[0]], path[1:], value)
    return copy


@pytest.mark.parametrize("value", [None, [], {}, [[]], {"a": None}, 1e999, 10**400])
def test_no_value_in_the_place_of_another_is_more_than_one_line(run, value):
    """Every field of the manifest and of a record, one at a time: it is read, or refused in one line."""
    manifest = json.loads((run / "manifest.json").read_text())
    lines = (run / "records.jsonl").read_text().splitlines()
    refused = 0
    for path in fields(manifest):
        (run / "manifest.json").write_text(json.dumps(planted(manifest, path, value)))
        refused += readable(lambda: read_manifest(run)) or readable(lambda: load(run))
    (run / "manifest.json").write_text(json.dumps(manifest))
    for path in fields(json.loads(lines[0])):
        (run / "records.jsonl").write_text(json.dumps(planted(json.loads(lines[0]), path, value)) + "\n" + lines[1])
        refused += readable(lambda: read(run / "records.jsonl"))
    assert refused > 40


def readable(reading):
    """1 if it is refused as it should be, 0 if it is read."""
    try:
        reading()
    except ValueError as error:
        message = str(error)
    else:
        return 0
    assert "\n" not in message
    return 1


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("schema", 2, "schema 2; this version reads 1"),
        ("conclusions", 5, "conclusions is no list of texts"),
        ("approximations", {"how": 5}, "the axis 'how' is no list of values"),
        ("approximations", [5], "axes, approximations or cells are not as they were written"),
        ("axes", {"how": [], "size": [1]}, "the axis 'how' is no list of values"),
        ("machine", {}, "machine lacks system"),
        ("basis", {}, "basis lacks weights"),
    ],
)
def test_what_reports_need_is_there_or_refused(run, name, value, fault):
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, name: value}))
    with pytest.raises(ValueError, match=re.escape(f"is no manifest of a run ({fault}): move")):
        read_manifest(run)


@pytest.mark.parametrize("name", ["manifest.json", "records.jsonl"])
@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", "{", "nonsense", '{"cells": NaN}', "[" * 100_000, "\ud800", '{"schema": 1, "id": 3}'],
)
def test_files_that_are_none(run, name, text, monkeypatch, capsys):
    (run / name).write_bytes(text.encode(errors="surrogatepass") + b"\n")
    if name == "records.jsonl" and not text:
        (run / name).write_bytes(b"\n\n")
    for command, words in (
        (reports, ["reports", str(run)]),
        (bench, ["bench", "compare", str(run), str(run)]),
        *([(bench, ["bench", "show", str(run), "--cell", "a"])] if name == "records.jsonl" else []),
    ):
        monkeypatch.setattr(sys, "argv", words)
        assert command.main() == 3, words
        out, error = capsys.readouterr()
        assert out == ""
        assert error.count("\n") == 1
        assert name in error
    assert sorted(path.name for path in run.iterdir()) == ["manifest.json", "records.jsonl"]


@pytest.mark.parametrize("key", ["../../../etc/pas", "/etc/passwd", "0123456789AB", "0123456789a", "", 123456789012])
def test_ids_are_twelve_hexadecimal_digits_before_they_become_paths(run, key):
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["cells"][0]["id"] = key
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="the id of cell 0 is not twelve hexadecimal digits"):
        read_manifest(run)


@pytest.mark.parametrize("name", ["manifest.json", "records.jsonl"])
def test_a_damaged_run_is_not_gone_on_with(run, name):
    before = {path: path.read_bytes() for path in run.iterdir()}
    (run / name).write_text("{}\n")
    with pytest.raises(ValueError, match=f"{name}.*move "):
        go(run, "how=fine,raise", "size=1")
    other = next(path for path in before if path.name != name)
    assert other.read_bytes() == before[other]


def test_a_run_that_is_whole_is_read(run):
    assert read_manifest(run)["suite"] == "toy"
    assert len(load(run).cells) == 3
