"""What holds for all tests: a default one that computes for too long fails, and checked modules import quickly."""

import ast
import gc
import os
import resource
import signal
import time
from functools import partial
from importlib.machinery import SourceFileLoader
from unittest.mock import patch

import jaxtyping
import pytest
from jaxtyping import _import_hook as hook

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # by a shell that started the tests in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else the processes of the tests would ignore it too
for variable in ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"):  # which most people do not set: the one hides what is
    os.environ.pop(variable, None)  # lost in buffers, with the other each process compiles the project anew
HEAVY = ("gpu", "slow", "network")
BEGAN = pytest.StashKey[tuple[float, float]]()  # CPU time and clock


class ShapeTransformer(hook.JaxtypingTransformer):
    """Checks the functions and classes whose annotations have a shape; jaxtyping's own checks all, as mypy does."""

    def visit_Module(self, node):  # noqa: N802
        imports = [each for each in node.body if isinstance(each, ast.ImportFrom) and each.module == "jaxtyping"]
        self._shapes = {alias.asname or alias.name for each in imports for alias in each.names}
        for each in node.body:
            if isinstance(each, ast.Assign) and isinstance(each.value, ast.Subscript) and self._in(each.value):
                self._shapes |= {target.id for target in each.targets}
        return super().visit_Module(node)

    def visit_ClassDef(self, node):  # noqa: N802
        fields = [each.annotation for each in node.body if isinstance(each, ast.AnnAssign)]
        return self._checked(super().visit_ClassDef, node, fields)

    def visit_FunctionDef(self, node):  # noqa: N802
        arguments = [each.annotation for each in ast.walk(node.args) if isinstance(each, ast.arg)]
        return self._checked(super().visit_FunctionDef, node, [*arguments, node.returns])

    def _in(self, annotation):
        return any(isinstance(each, ast.Name) and each.id in self._shapes for each in ast.walk(annotation))

    def _checked(self, visit, node, annotations):
        if any(self._in(annotation) for annotation in annotations if annotation is not None):
            return visit(node)
        self.generic_visit(node)
        return node


class ShapeLoader(hook._JaxtypingLoader):
    """jaxtyping's loader, without what makes it slow.

    It checks every function, and gives its own name for compiled files to all that its modules import, so that each
    process would compile torch and diffusers anew. Here only what annotates shapes is checked (mypy checks the rest),
    and only modules that do have that name.
    """

    exec_module = SourceFileLoader.exec_module

    def source_to_code(self, data, path, *, _optimize=-1):
        if b"jaxtyping" in data:
            return super().source_to_code(data, path, _optimize=_optimize)
        return SourceFileLoader.source_to_code(self, data, path, _optimize=_optimize)

    def get_code(self, fullname):
        named = partial(hook._optimized_cache_from_source, f"{self._typechecker.get_hash()}shapes")
        with patch("importlib._bootstrap_external.cache_from_source", named):
            return super().get_code(fullname)


hook._JaxtypingLoader = ShapeLoader
hook.JaxtypingTransformer = ShapeTransformer


@pytest.fixture(scope="module")
def shapes_unchecked():
    """For a file that makes many thousand calls whose shapes other tests check."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def cpu_seconds() -> float:
    """CPU time of this process and of the children that it waited for, in seconds; waiting does not count."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def pytest_collection_finish(session):
    """What collecting the tests has loaded stays: no garbage collection looks through those objects again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config):
    """At the end extension modules look for what they should have freed."""
    gc.unfreeze()


def pytest_addoption(parser):
    parser.addini(
        "cpu_seconds", "how long a default test may compute, with the fixtures that it is the first to ask for"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    item.stash[BEGAN] = cpu_seconds(), time.monotonic()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    result = yield
    cpu, clock = item.stash[BEGAN]
    # a child that ends now may have computed for many tests before, but not more than the cores could since then
    spent = min(cpu_seconds() - cpu, (time.monotonic() - clock) * (os.cpu_count() or 1))
    most = float(item.config.getini("cpu_seconds"))
    if spent > most and not any(item.get_closest_marker(name) for name in HEAVY):
        pytest.fail(
            f"a default test computes for at most {most:g} s, got {spent:.1f} s of CPU time: use smaller shapes, share "
            f"what it builds through a fixture, or mark it slow if another default test proves the same",
            pytrace=False,
        )
    return result
