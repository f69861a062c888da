import json
import math
import random

import pytest

from bench.results.records import (
    Attempt,
    Cell,
    CellResults,
    NotFiniteError,
    Number,
    Record,
    append,
    digest,
    read,
    repair,
    write_atomic,
)

CELL = Cell("toy", {"method": "vidrd", "frames": 16, "guidance": 3.0}, {"weights": "ab"})


def record(status="ok", reason="", cell=CELL, **more):
    return Record(cell, Attempt(status, reason, "2026-01-01T00:00:00+00:00", 1.5), **more)


def test_a_record_comes_back_equal(tmp_path):
    full = record(
        numbers={"fvd": Number(12.5, "", "lower", n=32, low=10.0, high=15.0), "rss": Number(1e9, "bytes", "lower")},
        samples={"denoise": (1.0, 2.0)},
        absent={"is": "no “judge” | here"},
        facts={"prompt": "a\nb\u2028c"},
        machine={"cpu": "x", "cores": 2},
        revision="abc+changes",
    )
    append(tmp_path / "r.jsonl", full)
    append(tmp_path / "r.jsonl", record("failed", "why"))
    journal = read(tmp_path / "r.jsonl")
    assert journal.records == [full, record("failed", "why")]
    assert journal.torn == b""
    assert journal.latest() == {CELL.id: record("failed", "why")}


def test_a_cells_id_is_its_content_and_nothing_else():
    shuffled = Cell("toy", {"guidance": 3.0, "frames": 16, "method": "vidrd"}, {"weights": "ab"})
    assert shuffled == CELL
    assert shuffled.id == CELL.id == "e7bbbaa01a1a"  # stable over versions: else no old run could be resumed
    others = [
        Cell("other", CELL.values, CELL.basis),
        Cell("toy", {**CELL.values, "frames": 17}, CELL.basis),
        Cell("toy", {**CELL.values, "frames": 16.0}, CELL.basis),
        Cell("toy", {**CELL.values, "frames": "16"}, CELL.basis),
        Cell("toy", {**CELL.values, "seed": 0}, CELL.basis),
        Cell("toy", CELL.values, {"weights": "ac"}),
        Cell("toy", CELL.values),
    ]
    assert len({CELL.id, *(cell.id for cell in others)}) == 8


def test_a_cell_cannot_be_changed():
    values = {"frames": 16}
    cell = Cell("toy", values)
    before = cell.id
    values["frames"] = 17
    assert cell.id == before
    with pytest.raises(TypeError, match="does not support item assignment"):
        cell.values["frames"] = 17


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_that_is_not_finite(tmp_path, value):
    with pytest.raises(ValueError, match=r"finite; value is .*leave it out and say why"):
        Number(value)
    with pytest.raises(ValueError, match="finite; low is"):
        Number(1.0, low=value, high=2.0)
    with pytest.raises(NotFiniteError, match="the samples in a record are finite; denoise has one that is not"):
        CellResults(samples={"denoise": (1.0, value)})
    with pytest.raises(ValueError, match="not JSON compliant"):
        append(tmp_path / "r.jsonl", record(samples={"denoise": (value,)}))
    assert not (tmp_path / "r.jsonl").exists()


def test_half_an_interval_is_none():
    with pytest.raises(ValueError, match="two ends"):
        Number(1.0, low=0.5)


@pytest.mark.parametrize(("status", "reason"), [("ok", "but"), ("failed", ""), ("skipped", "")])
def test_a_reason_exactly_when_not_ok(status, reason):
    with pytest.raises(ValueError, match="a reason exactly when it is not ok"):
        Attempt(status, reason)


def test_an_unknown_status_is_refused(tmp_path):
    line = json.loads(record().to_json())
    line["attempt"]["status"] = "fine"
    (tmp_path / "r.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(ValueError, match="line 1, is no record"):
        read(tmp_path / "r.jsonl")


def test_wherever_the_last_line_is_torn_the_others_are_read_and_repair_cuts_it_off(tmp_path):
    path = tmp_path / "r.jsonl"
    lines = [record().to_json(), record("oom", "of memory").to_json()]
    whole = ("\n".join(lines) + "\n").encode()
    first = len(lines[0].encode()) + 1
    for cut in [first + 1, *random.Random(0).sample(range(first + 2, len(whole) - 1), 10), len(whole) - 1]:
        path.write_bytes(whole[:cut])
        path.with_suffix(".torn").unlink(missing_ok=True)
        assert read(path).records == [record()]
        assert read(path).torn == whole[first:cut]
        assert repair(path) == whole[first:cut]
        assert path.read_bytes() == whole[:first]
        assert path.with_suffix(".torn").read_bytes() == whole[first:cut] + b"\n"
        assert repair(path) == b""
        append(path, record("failed", "again"))
        assert [r.attempt.status for r in read(path).records] == ["ok", "failed"]


def test_a_broken_line_in_the_middle_is_not_passed_over(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text(record().to_json() + "\n{}x\n" + record().to_json() + "\n")
    with pytest.raises(ValueError, match=r"r\.jsonl, line 2, is no record .*: move the file away"):
        read(path)


def test_a_newer_schema_and_a_changed_cell_are_refused(tmp_path):
    path = tmp_path / "r.jsonl"
    line = json.loads(record().to_json())
    path.write_text(json.dumps({**line, "schema": 2}) + "\n")
    with pytest.raises(ValueError, match="schema 2; this version reads 1"):
        read(path)
    line["cell"]["values"]["frames"] = 64
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(ValueError, match="was changed by hand"):
        read(path)


def test_no_file_is_no_records(tmp_path):
    assert read(tmp_path / "none").records == []
    assert repair(tmp_path / "none") == b""


def test_a_file_is_written_whole_and_leaves_nothing_beside(tmp_path):
    write_atomic(tmp_path / "a", "one")
    write_atomic(tmp_path / "a", "two")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "two")]


def test_equal_content_has_one_digest():
    assert digest({"a": [1, 2.5], "b": "é"}) == digest({"b": "é", "a": [1, 2.5]})
