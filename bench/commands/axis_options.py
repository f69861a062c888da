"""Axes as options: `--frames 16 32 --overlap 0 4` is another way to write `--set frames=16,32 --set overlap=0,4`."""

import inspect
from collections.abc import Callable, Sequence

from bench.harness.suite_spec import did_you_mean


def axes_to_set(words: Sequence[str], command: Callable[..., int]) -> list[str]:
    """The words of a command line, every option that is an axis of its suite rewritten as `--set`.

    Raises:
        ValueError: an option is neither one of the command's nor an axis of the suite.
    """
    parameters = inspect.signature(command).parameters
    known = {name.rstrip("_") for name in parameters}
    rewritten, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if not word.startswith("--") or name in {*known, *(f"no_{each}" for each in known), "help"}:
            rewritten.append(word)
            continue
        axes = _axes(_suite(words, str(parameters["suite"].default)))
        if name not in axes:
            options = [f"--{each.replace('_', '-')}" for each in (*axes, *sorted(known))]
            option = word.partition("=")[0]
            raise ValueError(f"there is no option {option}{did_you_mean(option, options)}")
        values = [value] if equals else []
        while rest and not rest[0].startswith("--"):
            values.append(rest.pop(0))
        if not values:
            raise ValueError(f"--{name} needs values: try --{name} {' '.join(map(str, axes[name]))}")
        rewritten += ["--set", f"{name}={','.join(values)}"]
    return rewritten


def _suite(words: Sequence[str], default: str) -> str:
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name == "--suite":
            return value if equals else following
    return default


def _axes(suite: str) -> dict[str, tuple[object, ...]]:
    from bench.suites import SUITES  # noqa: PLC0415  (loads torch, which most command lines need not)

    if suite not in SUITES:
        raise ValueError(f"there is no suite {suite!r}{did_you_mean(suite, list(SUITES))}")
    axes: dict[str, tuple[object, ...]] = dict(SUITES[suite].axes)
    rest = {**SUITES[suite].fixed, **SUITES[suite].optional}
    return axes | {name: (value,) for name, value in rest.items()}
