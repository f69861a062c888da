import pytest

from bench.regression.thresholds import load

MEASURES, CELLS = ("speed", "flops", "fvd"), ("vidrd fp32", "direct fp32")


def read(tmp_path, text):
    (tmp_path / "gate.toml").write_text(text)
    return load(tmp_path / "gate.toml", MEASURES, CELLS)


def test_a_cells_own_margin_comes_before_the_common_one(tmp_path):
    thresholds = read(tmp_path, 'speed = 0.05\nflops = 0\n[cells."vidrd fp32"]\nspeed = 0.01\n')
    assert thresholds.of("vidrd fp32") == {"speed": 0.01, "flops": 0}
    assert thresholds.of("direct fp32") == {"speed": 0.05, "flops": 0}
    assert read(tmp_path, "").of("vidrd fp32") == {}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("speed", "thresholds are a TOML file"),
        ("sped = 1", "a measure is one of speed, flops, fvd; got sped"),
        ("speed = '3%'", r"a margin is a share from 0 to 10, 0\.03 is 3 %; got speed = '3%'"),
        ("speed = nan", "got speed = nan"),
        ("speed = true", "got speed = True"),
        ("speed = -1", "got speed = -1"),
        ("fvd = 0", "a margin of quality is above 0"),
        ("cells = 3", "cells are tables"),
        ('[cells."other"]\nspeed = 1', "a cell is one of vidrd fp32, direct fp32; got 'other'"),
        ('[cells."vidrd fp32"]\nsped = 1', "got cells.vidrd fp32.sped"),
    ],
)
def test_mistakes_are_named(tmp_path, text, match):
    with pytest.raises(ValueError, match=match):
        read(tmp_path, text)


def test_no_file_is_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="thresholds are a TOML file"):
        load(tmp_path / "none.toml", MEASURES, CELLS)
