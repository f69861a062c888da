"""A run to be killed: python killed_run.py FOLDER [SIZES]."""

import sys
from pathlib import Path

from toy_suite import SUITE, TOYS

from bench.harness.identity import identify
from bench.harness.runner import run
from bench.harness.suite_spec import override, plan
from vidrd.entry import obey


def go():
    """The run; prints how many cells are ok and how many were there before."""
    suite = override(SUITE, ["how=fine", f"size={sys.argv[2] if len(sys.argv) > 2 else '1,2,3,4'}"])
    identity = identify(suite.files)
    outcome = run("toy", suite, identity, plan(suite, identity.basis), Path(sys.argv[1]), workloads=TOYS)
    print(outcome.counts["ok"], outcome.reused)
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(obey("killed_run", go))
