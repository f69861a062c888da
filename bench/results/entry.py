"""The way into `python -m bench` and `python -m reports`: parse, check everything that can be checked, then work."""

import contextlib
import functools
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tyro

from bench.results.option_types import check, check_words
from vidrd.entry import CRASHED, STOPPED, TERMINATED, USAGE, obey, one_line

__all__ = ["CRASHED", "STOPPED", "TERMINATED", "USAGE", "obey", "one_line", "parse", "parse_verb"]
FRAME = "╭╮╰╯│─"  # of the box that tyro draws around an error


def parse(verb: Callable[..., int], words: Sequence[str], program: str, description: str | None) -> Callable[[], int]:
    """The verb with the arguments of a command line, checked.

    Raises:
        ValueError: one line that says which word is wrong.
    """
    with _one_line_errors():
        bound = tyro.cli(_bind(verb), prog=program, description=description, args=words)
    return _checked(bound, words)


def parse_verb(
    verbs: Mapping[str, Callable[..., int]], words: Sequence[str], program: str, description: str | None
) -> Callable[[], int]:
    """The verb that the first word names, with the arguments of the other words, checked.

    Raises:
        ValueError: one line that says which word is wrong.
    """
    with _one_line_errors():
        bound = tyro.extras.subcommand_cli_from_dict(
            {name: _bind(verb) for name, verb in verbs.items()}, prog=program, description=description, args=words
        )
    return _checked(bound, words[1:])


def _bind(verb: Callable[..., int]) -> Callable[..., Any]:
    """A function with the verb's signature and help that binds the arguments and does not call the verb."""

    @functools.wraps(verb)
    def bind(*args: Any, **kwargs: Any) -> functools.partial[int]:
        return functools.partial(verb, *args, **kwargs)

    return bind


def _checked(bound: functools.partial[int], words: Sequence[str]) -> Callable[[], int]:
    check_words(bound.func, words)
    check(bound.func, bound.keywords)
    return bound


@contextlib.contextmanager
def _one_line_errors() -> Any:
    """Turn the box of many lines that tyro prints about a wrong word into a ValueError of one; print help as it is."""
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            yield
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ValueError(_unboxed(box.getvalue())) from None
    finally:
        if sys.exc_info()[0] is None and box.getvalue():  # a warning
            sys.stderr.write(box.getvalue())


def _unboxed(text: str) -> str:
    """The first paragraph of a box, and the option that says more."""
    lines = [line.strip(f"{FRAME} ") for line in text.splitlines()]
    body: list[str] = []
    for line in lines[1:]:
        if not line:
            if body:
                break
            continue
        body.append(line)
    message = one_line(" ".join(body)).rstrip(".")
    return f"{message}; see --help" if message else "the command line cannot be read: see --help"
