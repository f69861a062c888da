"""Where a data set's files lie, and the text files that people keep about them: lists, tables, lines of JSON.

People's text files are UTF-8 with or without a mark at the start, and lines end at line feeds alone. A row that is
broken becomes a `Drop` that names file and line, and never the end of the work.
"""

import csv
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vidrd.data.record import Drop, Media, Record, slug

VIDEOS = (
    ".mp4", ".avi", ".mkv", ".webm", ".mov", ".gif", ".m4v", ".mpg", ".mpeg", ".vob", ".ts", ".m2ts", ".mts", ".3gp"
)  # fmt: skip
IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
FOREIGN = (".flv", ".wmv", ".asf", ".ogv", ".rm", ".rmvb", ".heic", ".avif", ".jp2", ".jxl")  # which nothing here reads
MOST_TEXT = 1 << 24  # bytes of a text that is read in one piece: captions next to a file, a sample of a tar
Records = Iterator[Record | Drop]


@dataclass(frozen=True)
class Where:
    """Where an adapter looks, and for which split."""

    root: Path  # folder of the media
    annotations: Path | None = None  # the set's own list; None: the usual place under root, or none needed
    split: str = ""  # "" means all; "val" is also "validate" and "validation"
    outside: bool = False  # lists and tables may name files that do not lie under root

    @property
    def named(self) -> Path | None:
        """The set's own list, if one is named: from the current folder, or else from the root."""
        if self.annotations is None or self.annotations.exists():
            return self.annotations
        below = self.root / self.annotations
        return below if below.exists() else self.annotations

    def lists(self, usual: Mapping[str, Sequence[str]], folders: Sequence[str] = ("",)) -> list[tuple[str, Path]]:
        """Annotation files, each with its split: the named one, or for every wanted split the first that exists.

        `usual`: names below the root by split, which may have wildcards; those under "" are of all. `folders`: where
        they may lie.

        Raises:
            ValueError: there is none, or no such split.
        """
        if self.named:
            lists = [(self.split, self.named)] if self.named.is_file() else []
            wanted = f"{self.annotations}, here or in {self.root}"
        else:
            parts = [part for part in usual if self.takes(part)]
            if not parts:
                raise ValueError(f"the set's splits are {', '.join(filter(None, usual))}: got {self.split}")
            places = [self.root / folder for folder in folders]
            there = {
                part: [
                    path
                    for name in usual[part]
                    for place in places
                    for path in sorted(place.glob(name))
                    if path.is_file()
                ]
                for part in parts
            }
            lists = [(part, paths[0]) for part, paths in there.items() if paths]
            wanted = f"{' or '.join(name for part in parts for name in usual[part])} in {self.root}"
        if not lists:
            raise ValueError(f"the annotation file is missing: {wanted}; name it by --annotations")
        return lists

    def takes(self, split: str) -> bool:
        """Whether rows of that split are wanted; rows without a split are."""
        mine, theirs = ("val" if name.startswith("val") else name for name in (self.split, split))
        return not mine or not theirs or mine.startswith(theirs) or theirs.startswith(mine)

    def first(self, *names: str) -> Path:
        """The first of some paths below the root that is a file; the first one if none is.

        Raises:
            ValueError: a path leads out of the root, and `outside` is not set.
        """
        paths = [self.root / name for name in names]
        top = os.path.abspath(self.root)
        for path in paths:
            if not self.outside and os.path.commonpath([top, os.path.abspath(path)]) != top:
                raise ValueError(f"{path} lies outside {self.root}: pass --outside if the list may name such files")
        return next((path for path in paths if path.is_file()), paths[0])


class Row(NamedTuple):
    """A row of somebody's list."""

    place: str  # file and line
    value: Any


def drop_row(place: str, why: object) -> Drop:
    """The drop of a row, a file or a sample that cannot be understood."""
    return Drop(slug(place), "unreadable", f"{escape_halves(place)}: {escape_halves(str(why))}")


def escape_halves(text: str) -> str:
    """Text that any file and terminal takes: bytes that were no UTF-8, and halves of letters, become numbers."""
    return text.encode("utf-8", "backslashreplace").decode()


def records_of(rows: Iterable[Row | Drop], make: Callable[[Any], Record | Drop | None]) -> Records:
    """The record that `make` makes of each row (None: it is not wanted), or the drop that says why there is none."""
    for row in rows:
        if isinstance(row, Drop):
            yield row
            continue
        try:
            record = make(row.value)
        except ValueError as error:
            yield drop_row(row.place, error)
            continue
        if record is not None:
            yield record


def lines_of(path: Path) -> Iterator[Row | Drop]:
    """The lines of a file that are not blank, without what ends them."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            place = f"{path}, line {number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                yield drop_row(place, f"it is no UTF-8 ({error.reason})")
                continue
            if text.strip():
                yield Row(place, text)


def objects_of(path: Path) -> Iterator[Row | Drop]:
    """The objects of a .jsonl, one a line, or of a .json that holds a list of them.

    Raises:
        ValueError: the .json holds no list.
    """
    if path.suffix != ".jsonl":
        held = parse_json(path.read_bytes(), str(path))
        if not isinstance(held, list):
            raise ValueError(f"{path} must hold a list of objects: got {type(held).__name__}")
        rows: Iterable[Row | Drop] = (Row(f"{path}, entry {number}", value) for number, value in enumerate(held))
    else:
        rows = lines_of(path)
    for row in rows:
        if isinstance(row, Drop):
            yield row
            continue
        try:
            value = parse_json(row.value, "the line") if path.suffix == ".jsonl" else row.value
            if not isinstance(value, dict):
                raise ValueError(f"a row must be an object: got {type(value).__name__}")
        except ValueError as error:
            yield drop_row(row.place, error)
            continue
        yield Row(row.place, value)


def parse_json(text: str | bytes, what: str) -> Any:
    """What a JSON text holds.

    Raises:
        ValueError: it is no JSON, or nested too deep.
    """
    try:
        return json.loads(text.removeprefix("\ufeff") if isinstance(text, str) else text.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError(f"{what} is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"{what} is no JSON: {error}") from error


def table_of(path: Path, *need: str, optional: Sequence[str] = ()) -> Iterator[Row | Drop]:
    """Rows of a CSV: by column if `need` names some, which its header must have; else lists, without a header.

    `optional`: columns that messages name too.

    Raises:
        ValueError: the header lacks a column.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.reader(file)
        header: list[str] = []
        while True:
            try:
                fields = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield drop_row(f"{path}, line {rows.line_num}", error)
                continue
            if not fields:
                continue
            if need and not header:
                header = fields
                if missing := [name for name in need if name not in header]:
                    raise ValueError(
                        f"{path} must have columns {', '.join((*optional, *need))}; it lacks {', '.join(missing)}: "
                        f"got {', '.join(header)[:200]}"
                    )
                continue
            place = f"{path}, line {rows.line_num}"
            if not is_utf8("".join(fields)):
                yield drop_row(place, "it is no UTF-8")
            elif not need:
                yield Row(place, fields)
            elif len(fields) != len(header):
                yield drop_row(place, f"it has {len(fields)} fields, the header {len(header)}: quote those with commas")
            else:
                yield Row(place, dict(zip(header, fields, strict=True)))


def is_utf8(text: str) -> bool:
    """Whether a text holds no bytes that were no UTF-8, and no halves of letters as JSON may hold."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text) if not text.isascii() else True


def read_text(path: Path) -> str:
    """A small text file.

    Raises:
        ValueError: it is no UTF-8, no regular file, or too large.
    """
    if not path.is_file() or path.stat().st_size > MOST_TEXT:
        raise ValueError(f"it is no text file of at most {MOST_TEXT >> 20} MiB")
    return path.read_bytes().decode("utf-8-sig")


def captions_of(value: Any) -> tuple[str, ...]:
    """One caption or a list of them.

    Raises:
        ValueError: it is something else.
    """
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"a caption must be text, or a list of texts: got {value!r:.80}")
    return tuple(texts)


def text_in(row: Mapping[str, Any], name: str) -> str:
    """A text in a row.

    Raises:
        ValueError: it is missing, empty, or no text.
    """
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be text: got {value!r:.80}")
    return value


def seconds_in(row: Mapping[str, Any], name: str) -> float:
    """A time in a row, in seconds.

    Raises:
        ValueError: it is no number of 0 or more.
    """
    try:
        value = float(row[name])
    except (KeyError, TypeError, ValueError):
        value = math.nan
    if not 0 <= value < 1e7:
        raise ValueError(f"{name} must be seconds: got {row.get(name)!r:.80}")
    return value


def new_record(
    source: str, name: str, uri: Path | str, *, licence: str, labels: tuple[str, ...] = (),
    captions: Iterable[str] = (), media: Media = "video", split: str = "", seconds: tuple[float, float] | None = None,
) -> Record:  # fmt: skip
    """A record of a set.

    Raises:
        ValueError: a name or text is no UTF-8, which no index could hold.
    """
    tidy = tuple(" ".join(caption.split()) for caption in captions)
    for text in (str(uri), split, *labels, *tidy):
        if not is_utf8(text):
            raise ValueError(f"names and texts must be UTF-8: got {escape_halves(text):.200}")
    return Record(slug(name), str(uri), source, licence, media, seconds=seconds, labels=labels, captions=tidy,
                  split=split)  # fmt: skip


def files_by_stem(root: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """Files below a folder by stem."""
    return {path.stem: path for path in sorted(root.rglob("*")) if path.suffix.lower() in endings and not path.is_dir()}
