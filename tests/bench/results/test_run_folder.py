import json

import pytest

from bench.results.records import Attempt, Cell, Record, append
from bench.results.run_folder import load_run
from tests.bench.harness.test_runner import go


def test_the_records_are_the_last_ones_of_the_planned_cells_in_the_order_of_the_plan(tmp_path):
    go(tmp_path, "how=fine,raise", "size=1")
    other = Record(Cell("toy", {"how": "of another plan"}), Attempt("ok"))
    append(tmp_path / "records.jsonl", other)
    run = load_run(tmp_path)
    planned = [cell["id"] for cell in json.loads((tmp_path / "manifest.json").read_text())["cells"]]
    assert list(run.records) == planned
    assert run.manifest["suite"] == "toy"
    assert [record.cell.id for record in run.journal.records][-1] == other.cell.id
    again = Record(run.records[planned[1]].cell, Attempt("oom", "later"))
    append(tmp_path / "records.jsonl", again)
    assert load_run(tmp_path).records[planned[1]].attempt.reason == "later"


def test_a_planned_cell_without_a_record_is_left_out_and_an_unfinished_line_is_kept_apart(tmp_path):
    go(tmp_path, "how=fine", "size=1")
    lines = (tmp_path / "records.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "records.jsonl").write_text(lines[0] + lines[1][:20])
    run = load_run(tmp_path)
    assert len(run.records) == 1 < len(run.manifest["cells"])
    assert run.journal.torn == lines[1][:20].encode()


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is no run: it has no manifest\.json"):
        load_run(tmp_path)
