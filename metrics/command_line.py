"""From words to a verb that can be carried out: ranges, places, and options that mean something together."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import tyro

from metrics.cli_options import Common, Fvd, InceptionScore, Jitter, Kvd, Verb
from metrics.evaluation.dataset import POCKET, ResolvedProtocol
from metrics.option_types import check, check_words, one_line_errors
from metrics.protocols import FEATURES

OUTPUTS = ("json", "save_stats", "export")

Rule = tuple[bool, str]  # (whether it is broken, what to say then)


def parse(words: Sequence[str], description: str | None) -> Verb:
    """The verb that a command line asks for; whatever can be checked before work is.

    Raises:
        ValueError: one line that names the option.
    """
    with one_line_errors():
        verb: Verb = tyro.cli(
            Verb, prog="python -m metrics", description=description, args=words, config=(tyro.conf.DisallowNone,)
        )
    records = [verb, *(getattr(verb, part) for part in ("common", "reading") if hasattr(verb, part))]
    for record in records:
        check_words(type(record), words)
        check(type(record), vars(record))
    _keep_inputs(records)
    if isinstance(verb, Jitter):
        refuse(_rules_of_jitter(verb))
    elif isinstance(verb, Fvd | Kvd | InceptionScore):
        refuse(_rules_of_sets(verb))
    return verb


def refuse(rules: Iterable[Rule]) -> None:
    """Raise ValueError for the first rule that is broken."""
    for broken, message in rules:
        if broken:
            raise ValueError(message)


def rules_of_protocol(common: Common, metric: str, protocol: ResolvedProtocol) -> list[Rule]:
    """Options that would be ignored by the network and the clips of this protocol."""
    pocket, program = protocol.name == POCKET, common.run_program or common.trust_program
    others = pocket or program or protocol.name in FEATURES
    i3d, c3d = (not others and (metric == "is") == wanted for wanted in (False, True))
    which = f"{metric} by the protocol {protocol.name}" + (" and a program" if program else "")
    stored = protocol.real.storage or protocol.fake.storage
    program_of = not pocket and protocol.name not in FEATURES
    return [
        (common.mean is not None and not c3d, f"--mean is C3D's, which {which} does not run: leave it out"),
        (common.precision != "float32" and not i3d, f"--precision is I3D's, which {which} does not run: leave it out"),
        (common.compiled and not i3d, f"--compiled is I3D's, which {which} does not run: leave it out"),
        (common.run_program and not program_of, _no_program("run", protocol.name)),
        (common.trust_program and not program_of, _no_program("trust", protocol.name)),
        (common.stored and stored is None, f"--stored: the loader of {protocol.name} stores nothing, leave it out"),
        (
            common.stride is not None and protocol.frames is None,
            "--stride is taken within clips of some --frames: give both, whole videos are taken frame by frame",
        ),
    ]


def _rules_of_sets(verb: Fvd | Kvd | InceptionScore) -> list[Rule]:
    common = verb.common
    alone = isinstance(verb, InceptionScore) and len(verb.videos) == 1
    of_real = {
        "--real-list": common.real_list,
        "--real-clips": common.real_clips,
        "--save-stats": common.save_stats,
    }
    about = next((option for option, value in of_real.items() if value is not None), "")
    listed = common.fake_clips is not None and (alone or common.real_clips is not None)
    return [
        (common.window is not None and common.frames is not None, _both("window", "frames", "how long clips are")),
        (
            common.window is not None and common.stride is not None,
            "--window cuts windows frame by frame: give --stride with --frames instead",
        ),
        (bool(alone and about), f"{about} is about the real set: give one, and then the generated one"),
        (common.n is not None and listed, "--n: the lists of clips say which clips are used, leave it out"),
        (
            common.save_stats is not None and common.save_stats.suffix != ".npz",
            f"--save-stats writes an .npz, by which ending it is known again: got {common.save_stats}",
        ),
        (
            common.protocol is not None and not common.protocol,
            "--protocol names a way to compute the score: got an empty word",
        ),
        (
            isinstance(verb, InceptionScore) and verb.head == "",
            "--head names what the classifier tells apart: got an empty word",
        ),
    ]


def _rules_of_jitter(verb: Jitter) -> list[Rule]:
    seams = list(verb.seams)
    return [
        (
            seams != sorted(set(seams)),
            f"--seams are the first frames of new clips, rising, each once: got {' '.join(map(str, seams))}",
        ),
        (verb.dropped > 0 and not seams, "--dropped says what was lost at --seams: give both or neither"),
        (not verb.flow and verb.raft is not None, "--raft computes optical flow: leave it out, or leave out --no-flow"),
        (
            verb.raft is None and verb.device != "auto",
            f"--device says where RAFT runs: got {verb.device!r} without --raft, give both or neither",
        ),
    ]


def _no_program(which: str, protocol: str) -> str:
    return f"--{which}-program runs a published program, the protocol {protocol} has none: leave it out"


def _both(first: str, second: str, what: str) -> str:
    return f"--{first} and --{second} both say {what}: give one"


def _keep_inputs(records: Sequence[object]) -> None:
    """Refuse to write over what is read, or arrays and tensors to where no file can be."""
    given: dict[str, object] = {}
    for record in records:
        given |= vars(record)
    paths = [path for value in given.values() for path in (value if isinstance(value, tuple) else (value,))]
    for name in OUTPUTS:
        target = given.get(name)
        read = [path for path in paths if isinstance(path, Path) and path is not target and path.is_file()]
        if isinstance(target, Path) and name != "json" and target.exists() and not target.is_file():
            raise ValueError(f"--{name.replace('_', '-')} {target}: this is no regular file, name another")
        if isinstance(target, Path) and any(os.path.realpath(path) == os.path.realpath(target) for path in read):
            raise ValueError(f"--{name.replace('_', '-')} {target} is read as well: name another file")
