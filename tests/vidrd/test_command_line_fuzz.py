"""The promise of the reference system's command line, held to lines that nobody wrote by hand: see the test of bench's.

The options, their types and their ranges are read from the dataclasses, and the work itself is taken out.
"""

import contextlib
import dataclasses
import io
import sys
import typing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bench import test_command_line_fuzz as bench_fuzz
from tests.bench.test_command_line_fuzz import EXTRA, NUMBERS, PATHS, TEXTS, _tidy, tree
from vidrd import __main__ as vidrd
from vidrd import entry
from vidrd.data.prepare import Summary
from vidrd.data.record import Tally

place = bench_fuzz.place
ALLOWED = {0, 3}
VERBS = {kind.__name__.lower(): kind for kind in vidrd.VERBS}
DUE = {
    "root": ".", "out": "new", "prompt": "x", "format": "folder", "data": "folder", "model": "folder", "run": "folder",
    "sets": "folder",
}  # fmt: skip


def options_of(kind):
    """Name, type hint and whether a value is due, of every option; those of nested dataclasses too."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from options_of(hints[field.name])
        else:
            due = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            yield field.name, hints[field.name], due


def words_of(kind):
    """A strategy of command lines after the verb: few options, so that some are right."""
    always, parts = [], []
    for name, hint, due in options_of(kind):
        option, kinds = f"--{name.replace('_', '-')}", {hint, *typing.get_args(hint)}
        choices = [value for each in kinds for value in typing.get_args(each) if isinstance(value, str)]
        choices += [value for value in kinds if isinstance(value, str)]
        if bool in kinds:
            values = st.sampled_from([(option,), (f"--no-{option[2:]}",), (option, "yes")])
        else:
            pool = PATHS if Path in kinds else NUMBERS if kinds & {int, float} else (*choices, *TEXTS)
            values = st.sampled_from(pool).flatmap(
                lambda value, option=option: st.sampled_from([(option, value), (f"{option}={value}",), (option,)])
            )
        if due:
            good = (option, DUE[name])
            always.append(st.one_of(st.just(good), st.just(good), st.just(good), values, st.just(())))
        else:
            parts.append(values)
    some = st.lists(st.one_of(*parts, st.sampled_from([(word,) for word in EXTRA])), max_size=3).map(tuple)
    return st.tuples(st.tuples(*always), some).map(
        lambda both: [word for part in (*both[0], *both[1]) for word in part]
    )


@pytest.fixture(scope="module")
def idle(place):
    """The verbs without their work; what they would have done is only noted."""
    done = []

    def note(*args, **kwargs):
        done.append(args)
        return Summary(Tally(), 1, 1.0, 1)

    def refuse(*args, **kwargs):
        done.append(args)
        raise ValueError("no work here")

    card = {"keys": {}, "left_out": {}}
    stub = SimpleNamespace(vae=SimpleNamespace(to=note), latent_shape_of=note)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr("vidrd.data.prepare.prepare", note)
        patch.setattr("vidrd.data.latents.cache_latents", note)
        patch.setattr("vidrd.data.merge.merge", lambda *args, **kwargs: (0, 0))
        patch.setattr("vidrd.checkpoints.load_any", lambda model: stub)
        patch.setattr("vidrd.checkpoints.load_pipeline", refuse)
        patch.setattr("vidrd.pocket.train.train_pocket", note)
        patch.setattr("vidrd.training.full.train_on_data", note)
        patch.setattr("vidrd.training.full.export", lambda *args: 0)
        patch.setattr("vidrd.__main__.launch", lambda *args: 0)
        patch.setattr("vidrd.released.inflate_folder", note)
        patch.setattr("vidrd.released.convert_released", lambda *args, **kwargs: card)
        patch.setattr(
            "vidrd.pocket.world.render", lambda scenes, frames, **options: np.zeros((1, 1, 8, 8, 3), np.uint8)
        )
        patch.setattr("vidrd.video.write_video", note)
        patch.setattr("torch.set_num_threads", note)
        yield done


def run(words):
    out, error = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        patch.setattr(sys, "argv", ["vidrd", *words])
        return vidrd.main(), out.getvalue(), error.getvalue()


@pytest.mark.parametrize("name", VERBS)
def test_any_command_line_is_done_or_answered_in_one_line(name, idle, place):
    before, kept = tree(place), (place / "file").read_bytes()

    @settings(max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(words_of(VERBS[name]))
    def hold(words):
        code, out, said = run([name, *words])
        assert code in ALLOWED, said
        assert "Traceback" not in out + said
        if code == entry.USAGE:
            lines = [line for line in said.strip().splitlines() if "is emulated on this" not in line]  # a remark
            assert len(lines) == 1, said
            assert lines[0].isprintable(), said
            assert tree(place) == before, words
        else:
            _tidy(place, before)
        assert (place / "file").read_bytes() == kept or "file" in " ".join(words)
        (place / "file").write_bytes(kept)

    hold()
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("name", VERBS)
def test_every_number_has_a_range_and_its_message_names_the_option(name, idle, place):
    """By name, so that no option is forgotten: what is no number, and one far out of any range on both sides."""
    words = [word for each, _, due in options_of(VERBS[name]) if due for word in (f"--{each}", DUE[each])]
    for option, hint, _ in options_of(VERBS[name]):
        kinds = {hint, *typing.get_args(hint)}
        if not kinds & {int, float}:
            continue
        flag = f"--{option.replace('_', '-')}"
        for value in ("nan", "-9999999", "1" + "0" * 30):
            if option in ("seed", "guidance", "show_guidance") and value == "-9999999":
                continue  # any number will do
            code, _, said = run([name, *words, flag, value])
            assert code == 3, (flag, value)
            assert flag in said or "no work here" not in said, said
            assert flag[2:] in said, (flag, value, said)


def test_the_strategy_reaches_work_and_refusal(idle, place):
    """So that the promise is not held by refusing everything."""
    lines = {"prepare": ["--format", "folder", "--root", ".", "--out", "set"], "train": ["--out", "run"],
             "world": ["--out", "clips", "--count", "2"]}  # fmt: skip
    for name, words in lines.items():
        before, calls = tree(place), len(idle)
        assert run([name, *words])[0] == 0
        assert len(idle) > calls
        _tidy(place, before)
        code, _, said = run([name, *words, "--seed", "nan"])
        assert code == 3, said
