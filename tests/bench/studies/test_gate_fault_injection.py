import pytest

from bench.hardware.machine import ROOT
from bench.studies.gate_fault_injection import FAULTS, NONE, plant


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_can_be_planted_in_the_project_as_it_stands(name, tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "vidrd").symlink_to(ROOT / "vidrd")
    copy = plant(FAULTS[name], tmp_path / "tree", tmp_path / "copy", first=951)
    for file in FAULTS[name].changes:
        planted = (copy / file).read_text()
        assert planted != (ROOT / file).read_text()
        compile(planted, file, "exec")


def test_what_is_not_there_cannot_be_replaced(tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.py").write_text("x = 1\n")
    fault = NONE._replace(changes={"a.py": (("y = 2", "y = 3"),)})
    with pytest.raises(ValueError, match="0 times and not once: fix the fault"):
        plant(fault, tmp_path / "tree", tmp_path / "copy", first=0)
