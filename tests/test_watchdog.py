"""The watchdog of tests/conftest.py sees computing, in this process and in others, and no waiting."""

import re
from pathlib import Path

pytest_plugins = ["pytester"]

BURN = "import time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass\n"
TESTS = f"""
import subprocess, sys, time
import pytest

BURN = {BURN!r}

@pytest.fixture(scope="module")
def built():
    exec(BURN)

def test_computes():
    exec(BURN)

def test_computes_in_a_child():
    subprocess.run([sys.executable, "-c", BURN], check=True)

def test_asks_for_a_fixture_first(built):
    pass

def test_asks_for_it_again(built):
    pass

def test_waits():
    time.sleep(0.5)

def test_fails_for_a_reason_of_its_own():
    exec(BURN)
    raise ValueError("mine")

@pytest.mark.slow
def test_is_marked():
    exec(BURN)
"""


def test_who_computes_for_too_long_fails_and_who_waits_does_not(pytester):
    pytester.makeconftest((Path(__file__).parent / "conftest.py").read_text())
    pytester.makeini("[pytest]\ncpu_seconds = 0.3\nmarkers = slow")
    pytester.makepyfile(TESTS)
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly")
    done.assert_outcomes(passed=3, failed=4)
    output = done.stdout.str()
    failed = {"computes", "computes_in_a_child", "asks_for_a_fixture_first", "fails_for_a_reason_of_its_own"}
    assert set(re.findall(r"^FAILED \S+::test_(\w+)", output, re.MULTILINE)) == failed
    assert output.count("a default test computes for at most 0.3 s, got 0.") >= 3
    assert "ValueError: mine" in output
