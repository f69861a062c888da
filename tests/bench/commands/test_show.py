import json

from tests.bench.harness.test_runner import go


def test_show_prints_a_cell_with_its_raw_samples(bench, tmp_path):
    go(tmp_path, "how=fine", "size=1")
    code, out, _ = bench("show", str(tmp_path), "--cell", "")
    assert code == 0
    assert json.loads(out.split("\n{")[0])["cell"]["values"]["how"] == "real"
    assert '"samples": {\n  "speed": [' in out
    code, _, error = bench("show", str(tmp_path), "--cell", "zz")
    assert code == 3
    assert error.startswith("bench: no record of a cell 'zz'")
