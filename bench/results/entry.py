"""The way into `python -m bench` and `python -m reports`: parse, check everything that can be checked, then work."""

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tyro

from vidrd.command_line import check, check_words, one_line_errors
from vidrd.entry import CRASHED, obey

HELP = (tyro.conf.DisallowNone,)  # an option that is not given has no word
__all__ = ["CRASHED", "obey", "parse", "parse_verb"]


def parse(verb: Callable[..., int], words: Sequence[str], program: str, description: str | None) -> Callable[[], int]:
    """The verb with the arguments of a command line, checked.

    Raises:
        ValueError: one line that says which word is wrong.
    """
    with one_line_errors():
        bound = tyro.cli(_bind(verb), prog=program, description=description, args=words, config=HELP)
    return _checked(bound, words)


def parse_verb(
    verbs: Mapping[str, Callable[..., int]], words: Sequence[str], program: str, description: str | None
) -> Callable[[], int]:
    """The verb that the first word names, with the arguments of the other words, checked.

    Raises:
        ValueError: one line that says which word is wrong.
    """
    with one_line_errors():
        bound = tyro.extras.subcommand_cli_from_dict(
            {name: _bind(verb) for name, verb in verbs.items()},
            prog=program,
            description=description,
            args=words,
            config=HELP,
        )
    return _checked(bound, words[1:])


def _bind(verb: Callable[..., int]) -> Callable[..., Any]:
    """A function with the verb's signature and help that binds the arguments and does not call the verb."""

    @functools.wraps(verb)
    def bind(*args: Any, **kwargs: Any) -> functools.partial[int]:
        return functools.partial(verb, *args, **kwargs)

    # tyro prints the line breaks within an argument's text, and reads the text of what is wrapped
    bind.__doc__ = re.sub(r"\n {8,}", " ", inspect.cleandoc(verb.__doc__ or ""))
    bind.__signature__ = inspect.signature(verb)  # type: ignore[attr-defined]
    del bind.__wrapped__
    return bind


def _checked(bound: functools.partial[int], words: Sequence[str]) -> Callable[[], int]:
    check_words(bound.func, words)
    check(bound.func, bound.keywords)
    return bound
