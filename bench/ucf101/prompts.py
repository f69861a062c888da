"""What the model is asked to show: a prompt or several a class, of our own, of the class names, or from a file.

The paper devised one descriptive prompt a class and did not publish them (arXiv 2309.03549, section 5); the set
"descriptive" is this project's own and will not give the paper's numbers exactly.
"""

import csv
import hashlib
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bench.ucf101.classes import classes

DESCRIPTIVE = "descriptive"
CLASS_NAME = "class-name"
PLACE = "{class}"  # in a template
CLASS_COLUMNS = ("class", "class_name", "classname", "label", "action", "category")
TEXT_COLUMNS = ("prompt", "text", "caption", "description", "sentence")


@dataclass(frozen=True)
class Prompt:
    """One text and the class that it is to show."""

    id: str  # letters, digits, - and _: part of a video's name and seed
    class_name: str | None  # None: the list names no class
    text: str


@dataclass(frozen=True)
class PromptSet:
    """Prompts in the order of their classes."""

    name: str
    prompts: tuple[Prompt, ...]
    source: str  # whose they are

    @cached_property
    def sha256(self) -> str:
        """Hash of ids, classes and texts, whatever file they came from."""
        rows = [[prompt.id, prompt.class_name, prompt.text] for prompt in self.prompts]
        return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()

    @cached_property
    def by_id(self) -> dict[str, Prompt]:
        """The prompts by their ids."""
        return {prompt.id: prompt for prompt in self.prompts}

    def manifest(self) -> dict[str, object]:
        """What says which prompts these are."""
        return {"name": self.name, "sha256": self.sha256, "prompts": len(self.prompts), "source": self.source}


def prompt_set(name: str | Path) -> PromptSet:
    """A set by name, or from a file.

    `descriptive` is one sentence a class of our own, `class-name` the bare class as words, `class-name:TEMPLATE` a text
    with "{class}" in it ("class-name:a video of {class}"). Anything else is a path, see `read_prompts`.

    Raises:
        ValueError: no such set or file, a template without "{class}", or a file that is no list of prompts.
    """
    kind, _, template = str(name).partition(":")
    if kind == DESCRIPTIVE and not template:
        shipped = read_prompts(Path(__file__).with_name("prompts.csv"))
        return PromptSet(DESCRIPTIVE, shipped.prompts, "this project: one descriptive sentence a class")
    if kind == CLASS_NAME:
        template = template or PLACE
        if PLACE not in template:
            raise ValueError(f"a template needs {PLACE} where the class goes: {template!r} has none")
        prompts = tuple(Prompt(each.name, each.name, template.replace(PLACE, each.words)) for each in classes())
        return PromptSet(str(name), prompts, f"class names as words, in the template {template!r}")
    if not Path(name).is_file():
        raise ValueError(
            f"there are no prompts {str(name)!r}: take {DESCRIPTIVE}, {CLASS_NAME}, {CLASS_NAME}:TEMPLATE or a file "
            "(.csv, .json, .txt)"
        )
    return read_prompts(Path(name))


def read_prompts(path: Path) -> PromptSet:
    """Prompts from a file of any of the forms that lists for UCF-101 have.

    .csv: one row per prompt, with a header that names a column of classes and one of prompts, or without one as
    class,prompt. .json: {class: prompt or list of prompts}, a list of {"class": ..., "prompt": ...}, or a list of
    prompts. .txt: a prompt a line. Classes may be written as in the archive or as words. Keys of a .json that are no
    classes only name prompts. Where nothing names classes and there are exactly 101 prompts, they are taken in the
    order of classInd.txt, and the set's source says so.

    Raises:
        ValueError: the file cannot be read, is of another form, is empty, or names a class that UCF-101 does not have.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = FORMATS[path.suffix.lower()](text)
    except KeyError:
        raise ValueError(f"{path} must be a .csv, .json or .txt to be read as prompts") from None
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as prompts: {error}") from error
    rows = [(label, " ".join(prompt.split())) for label, prompt in rows]
    if not rows or not all(prompt for _, prompt in rows):
        raise ValueError(f"{path} holds {'an empty prompt' if rows else 'no prompts'}")
    try:
        prompts, remark = _of_classes(rows)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return PromptSet(path.name, tuple(prompts), f"the file {path.name}{remark}")


def _of_classes(rows: Sequence[tuple[str | None, str]]) -> tuple[list[Prompt], str]:
    """Prompts with their classes, in the order of the classes; and a remark on how they were found."""
    known = {_plain(each.name): each.name for each in classes()}
    names = [None if label is None else known.get(_plain(label)) for label, _ in rows]
    order = {each.name: each.index for each in classes()}
    if any(names):
        strange = [str(label) for (label, _), name in zip(rows, names, strict=True) if name is None]
        if strange:
            raise ValueError(f"{', '.join(strange[:3])} is no class of UCF-101, as other labels of the file are")
        pairs = sorted(
            ((str(name), prompt) for name, (_, prompt) in zip(names, rows, strict=True)), key=lambda p: order[p[0]]
        )
        several = {name for name, count in Counter(name for name, _ in pairs).items() if count > 1}
        turn: dict[str, int] = defaultdict(int)
        prompts = []
        for name, prompt in pairs:
            turn[name] += 1
            prompts.append(Prompt(f"{name}-{turn[name]}" if name in several else name, name, prompt))
        return prompts, ""
    if len(rows) == len(order):
        in_order = [Prompt(name, name, prompt) for name, (_, prompt) in zip(order, rows, strict=True)]
        return in_order, ", its 101 lines in the order of classInd.txt"
    return [Prompt(f"p{number:05d}", None, prompt) for number, (_, prompt) in enumerate(rows)], ", without classes"


def _plain(label: str) -> str:
    return re.sub(r"[^a-z0-9]", "", label.casefold())


def _csv(text: str) -> list[tuple[str | None, str]]:
    rows = [row for row in csv.reader(io.StringIO(text), strict=True) if any(cell.strip() for cell in row)]
    if not rows:
        return []
    header = [cell.strip().casefold() for cell in rows[0]]
    text_column = next((header.index(name) for name in TEXT_COLUMNS if name in header), None)
    label_column = next((header.index(name) for name in CLASS_COLUMNS if name in header), None)
    if text_column is None:
        if {len(row) for row in rows} != {2}:
            raise ValueError(f"a header must name a column {' or '.join(TEXT_COLUMNS)}, it has {', '.join(rows[0])}")
        label_column, text_column = 0, 1
    else:
        rows = rows[1:]
    short = next((row for row in rows if len(row) <= max(text_column, label_column or 0)), None)
    if short is not None:
        raise ValueError(f"the row {','.join(short)!r} has too few columns")
    return [(None if label_column is None else row[label_column], row[text_column]) for row in rows]


def _json(text: str) -> list[tuple[str | None, str]]:
    return list(_labeled_prompts(json.loads(text)))


def _labeled_prompts(content: object) -> Iterable[tuple[str | None, str]]:
    if isinstance(content, dict):
        for label, prompt in content.items():
            for each in prompt if isinstance(prompt, list) else [prompt]:
                yield label, _string(each)
    elif isinstance(content, list):
        for each in content:
            if isinstance(each, dict):
                prompt = next((each[name] for name in TEXT_COLUMNS if name in each), None)
                label = next((each[name] for name in CLASS_COLUMNS if name in each), None)
                yield None if label is None else str(label), _string(prompt)
            else:
                yield None, _string(each)
    else:
        raise ValueError(f'{{"class": "prompt"}} or a list was expected, got {str(content)[:60]!r}')


def _string(prompt: object) -> str:
    if not isinstance(prompt, str):
        raise ValueError(f"a prompt must be a text: got {str(prompt)[:60]!r}")
    return prompt


def _txt(text: str) -> list[tuple[str | None, str]]:
    return [(None, line) for line in text.splitlines() if line.strip()]


FORMATS = {".csv": _csv, ".json": _json, ".txt": _txt}
