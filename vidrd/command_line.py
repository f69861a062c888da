"""The values that options may have: ranges of numbers, folders and files, declared once and checked together.

    threads: Count | None = None
    json_: Annotated[TargetFile | None, ...] = None

The signature of a verb, or of a dataclass of its options, is the declaration: `check` reads it before the verb begins,
so before anything is written. Whatever is wrong with a command line is one line.
"""

import contextlib
import inspect
import io
import math
import os
import re
import stat
import sys
import tempfile
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

from vidrd.entry import one_line

FRAME = "╭╮╰╯│─"  # of the box that tyro draws around an error
COLOR = re.compile(r"\x1b\[[0-9;]*m")
NO_DEFAULT = re.compile(rf"\(default:((?:{COLOR.pattern}|[\s{FRAME}|])*)(None)?\)")  # also over two lines
LARGEST = 2**63 - 1  # of every whole number


@dataclass(frozen=True)
class Limits:
    """The range of a number, its ends included; with `above` the number has to be greater than `least`."""

    what: str  # the rule in words, for messages
    least: float | int = -LARGEST
    most: float | int = LARGEST
    above: bool = False
    or_zero: bool = False  # 0 is in the range too

    def holds(self, number: float | int) -> bool:
        """Whether the number is in the range; NaN and infinity never are."""
        low = number > self.least if self.above else number >= self.least
        return math.isfinite(number) and ((low and number <= self.most) or (self.or_zero and number == 0))


@dataclass(frozen=True)
class Place:
    """The kind of a path; a target is made or replaced, the others have to exist.

    It is no tuple: `typing` caches by equality, so an equal mark of the copy of this file would take its place.
    """

    kind: Literal["folder", "file", "target folder", "target file"]
    parents: bool = False  # folders above a target folder are made too


ANY = Limits("a finite number of at most 18 digits")
Count = Annotated[int, Limits("a count from 1", 1, 1_000_000)]
CountOrNone = Annotated[int, Limits("a count, or 0", 0, 1_000_000)]
Pixels = Annotated[int, Limits("pixels, from 8 to 8192", 8, 8192)]
PixelsOrNone = Annotated[int, Limits("pixels, from 8 to 8192, or 0", 8, 8192, or_zero=True)]
Scale = Annotated[int, Limits("a count from 1 to 64", 1, 64)]
FrameRate = Annotated[int, Limits("frames per second, from 1 to 1000", 1, 1000)]
Seed = Annotated[int, Limits("a whole number from 0, of at most 18 digits", 0, 10**18 - 1)]
Seconds = Annotated[float, Limits("seconds, more than 0", 0, 1e9, above=True)]
Minutes = Annotated[float, Limits("minutes, 0 or more", 0, 1e9)]
Margin = Annotated[float, Limits("a share, 0 or more: 0.03 is 3 %", 0, 100)]
PositiveMargin = Annotated[float, Limits("a share, more than 0: 0.1 is 10 %", 0, 100, above=True)]
Share = Annotated[float, Limits("a share, from 0 to 1", 0, 1)]
Positive = Annotated[float, Limits("a number above 0", 0, 1e6, above=True)]
Weight = Annotated[float, Limits("a weight, 0 or more", 0, 1e6)]
ExistingFolder = Annotated[Path, Place("folder")]
ExistingFile = Annotated[Path, Place("file")]
TargetFolder = Annotated[Path, Place("target folder")]
DeepTargetFolder = Annotated[Path, Place("target folder", parents=True)]
TargetFile = Annotated[Path, Place("target file")]


def option_of(name: str) -> str:
    """The option of a parameter: `json_` is --json."""
    return "--" + name.rstrip("_").replace("_", "-")


def check_words(verb: Callable[..., object], words: Sequence[str]) -> None:
    """Refuse an empty word for a path, which would be taken for the current folder.

    Raises:
        ValueError: the message names the option.
    """
    paths = [name for name, hint in _hints(verb).items() if Path in _types(hint)]
    options = {option_of(name) for name in paths}
    for before, word in zip(["", *words], words, strict=False):
        option, equals, value = word.partition("=")
        named = option if equals and not value else before if not word else ""
        if named in options:
            raise ValueError(f"{named} names a file or folder: got an empty word")
        if not word and paths and not before.startswith("--"):
            raise ValueError(f"{paths[0].rstrip('_').replace('_', '-')} is a file or folder: got an empty word")


def check(verb: Callable[..., object], arguments: Mapping[str, Any]) -> None:
    """Check the arguments of a verb against the ranges and places in its signature.

    Raises:
        ValueError: a number is out of its range, a path does not exist or cannot be written; the message names the
            option.
    """
    parameters = inspect.signature(verb).parameters
    targets: dict[Path, str] = {}
    for name, hint in _hints(verb).items():
        value = arguments.get(name)
        for each in value if isinstance(value, tuple) else (value,):
            option = option_of(name)
            if isinstance(each, int | float) and not isinstance(each, bool):
                _check_number(option, each, hint)
            elif isinstance(each, Path):
                place = next((mark for mark in _marks(hint) if isinstance(mark, Place)), None)
                if place is not None:
                    check_place(option, each, place, parents=place.parents or each == parameters[name].default)
                if place == Place("target file") and (each.is_file() or not each.exists()):
                    other = targets.setdefault(Path(os.path.realpath(each)), option)
                    if other != option:
                        raise ValueError(f"{other} and {option} both name {each}: give each a file of its own")


def _check_number(option: str, number: float | int, hint: object) -> None:
    limits = next((mark for mark in _marks(hint) if isinstance(mark, Limits)), ANY)
    if not limits.holds(number):
        raise ValueError(f"{option} is {limits.what}; got {number}")


def check_place(option: str, path: Path, place: Place, *, parents: bool = False) -> None:
    """Raise ValueError, naming the option, where a path is not of the kind that it must be.

    Args:
        option: for example "--out".
        path: its value.
        place: the kind that it must be; a target is tried by a file without a name, which leaves nothing.
        parents: folders above a target folder are made too.
    """
    if place.kind == "folder" and not path.is_dir():
        raise ValueError(f"{option} {path}: there is no such folder")
    if place.kind == "file" and not path.is_file():
        raise ValueError(f"{option} {path}: there is no such file")
    if place.kind == "target folder":
        _check_target_folder(option, path, parents=parents)
    if place.kind == "target file":
        _check_target_file(option, path)


def _check_target_folder(option: str, path: Path, *, parents: bool) -> None:
    if path.is_dir():
        return _try_to_write(option, path, path)
    if os.path.lexists(path):
        raise ValueError(f"{option} {path}: this is no folder, name another")
    parent = path.absolute().parent
    while parents and not os.path.lexists(parent) and parent != parent.parent:
        parent = parent.parent
    return _try_to_write(option, path, parent)


def _check_target_file(option: str, path: Path) -> None:
    if path.is_dir():
        raise ValueError(f"{option} {path}: this is a folder, name a file")
    if path.exists() and not path.is_file():
        if not os.access(path, os.W_OK) or stat.S_ISSOCK(path.stat().st_mode):
            raise ValueError(f"{option} {path}: this cannot be written")
        return None  # a device or a pipe, which is written into and never replaced
    real = Path(os.path.realpath(path))
    if real.is_symlink():
        raise ValueError(f"{option} {path}: this link leads to itself")
    return _try_to_write(option, path, real.parent if path.is_symlink() else path.absolute().parent)


def _try_to_write(option: str, path: Path, folder: Path) -> None:
    if not folder.is_dir():
        fault = "is no folder" if os.path.lexists(folder) else "does not exist, make it first"
        name = folder if path.is_absolute() or folder != path.absolute().parent else path.parent
        raise ValueError(f"{option} {path}: the folder {name} {fault}")
    try:
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ValueError(f"{option} {path}: nothing can be written into {folder} ({why})") from None


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn the box of many lines that tyro prints about a wrong word into a ValueError of one; print help plainly."""
    box, text = io.StringIO(), _Help(sys.stdout)
    try:
        with contextlib.redirect_stderr(box), contextlib.redirect_stdout(text):
            yield
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ValueError(_unboxed(box.getvalue())) from None
    finally:
        text.show()
        if sys.exc_info()[0] is None and box.getvalue():  # a warning
            sys.stderr.write(box.getvalue())


class _Help(io.StringIO):
    """Keeps help, and prints it without defaults of None or of no words: what happens then, an option's text says."""

    def __init__(self, terminal: TextIO) -> None:
        super().__init__()
        self._terminal = terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Whether frames can be drawn depends on it."""
        return self._terminal.encoding

    def isatty(self) -> bool:
        """Whether colors will be seen."""
        return self._terminal.isatty()

    def show(self) -> None:
        """Print it, without lines that say nothing else; frames stay in line."""
        text = self.getvalue()
        plain = NO_DEFAULT.sub(lambda match: f"{' ' * 9}{match[1]}{' ' * (len(match[2] or '') + 1)}", text)
        for line, before in zip(plain.splitlines(keepends=True), text.splitlines(keepends=True), strict=True):
            if line == before or COLOR.sub("", line).strip(f"{FRAME}| \n"):
                self._terminal.write(line)


def _unboxed(text: str) -> str:
    """The paragraph of a box that says most: the one about unknown options, or else the first."""
    lines = [line.strip(f"{FRAME} ") for line in text.splitlines()[1:]]
    groups = groupby(lines, lambda line: bool(line.strip("-")))
    paragraphs = [one_line(" ".join(words)) for written, words in groups if written]
    unknown = [each for each in paragraphs if each.startswith("Unrecognized")]
    message = next(iter(unknown + paragraphs), "").rstrip(".")
    return f"{message}; see --help" if message else "the command line cannot be read: see --help"


def _hints(verb: Callable[..., object]) -> dict[str, Any]:
    hints = typing.get_type_hints(verb, include_extras=True)
    return {name: hints[name] for name in inspect.signature(verb).parameters if name in hints}


def _parts(hint: object) -> Iterator[object]:
    """A type hint and, recursively, its arguments."""
    yield hint
    for part in typing.get_args(hint):
        yield from _parts(part)


def _marks(hint: object) -> Iterator[object]:
    return (mark for part in _parts(hint) for mark in getattr(part, "__metadata__", ()))


def _types(hint: object) -> set[object]:
    return {part for part in _parts(hint) if isinstance(part, type)}
