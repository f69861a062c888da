"""The toy suite is importable by name, here and in the processes that its cells run in."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def bench(monkeypatch, tmp_path, capsys):
    """Call the command line in an empty folder: arguments -> exit code, standard output, standard error.

    A command that gets as far as its work fails the test: a test of the command line must not measure anything.
    """
    from bench.__main__ import main

    def fail(*args, **kwargs):
        pytest.fail(f"the command began its work: {' '.join(sys.argv)[:200]}")

    for work in (
        "bench.commands.run.run",
        "bench.commands.gate.measure_interleaved",
        "bench.commands.gate._against_stored",
        "bench.commands.ucf101._standin",
        "bench.commands.weights.fetch",
        "bench.ucf101.run.Run.do",
        "bench.ucf101.run.Run.print_estimate",
    ):
        monkeypatch.setattr(work, fail)

    def call(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        code = main()
        return code, *capsys.readouterr()

    return call
