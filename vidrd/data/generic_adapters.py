"""Records of media that belong to no known set: folders, tars as webdataset writes them, Parquet tables."""

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidrd.data.layout import (
    FOREIGN,
    IMAGES,
    MOST_TEXT,
    VIDEOS,
    Records,
    Row,
    Where,
    captions_of,
    drop_row,
    escape_halves,
    new_record,
    objects_of,
    parse_json,
    read_text,
    records_of,
    table_of,
    text_in,
)
from vidrd.data.record import Drop, Media, Record, slug

Members = Mapping[str, tarfile.TarInfo]  # by ending


def folder(where: Where) -> Records:
    """Any folder of videos and pictures: captions in `<file>.txt` next to each (one per line), in `captions.jsonl`
    (`{"file": ..., "caption": ...}`) or `captions.csv` (`file,caption`); else the folder's name is the class."""
    listed: dict[str, list[str]] = {}

    def note(row: Mapping[str, Any]) -> None:
        listed.setdefault(text_in(row, "file"), []).extend(captions_of(row.get("caption")))

    yield from records_of(_caption_rows(where), note)
    endings = VIDEOS + IMAGES + FOREIGN
    found = sorted(path for path in where.root.rglob("*") if path.suffix.lower() in endings and not path.is_dir())
    paths = [path for path in found if path.suffix.lower() not in FOREIGN]
    for path in found:
        if path.suffix.lower() in FOREIGN:
            yield drop_row(str(path), f"{path.suffix} files are not read, convert it")
    known = {name for path in found for name in (path.relative_to(where.root).as_posix(), path.stem)}
    for name in listed:
        if name not in known:
            yield Drop(slug(name), "missing", f"the list names {escape_halves(name)}")

    def make(path: Path) -> Record:
        name, sidecar = path.relative_to(where.root).as_posix(), path.with_suffix(".txt")
        captions = listed.get(name) or listed.get(path.stem) or ()
        if not captions and sidecar.is_file():
            captions = [line.strip() for line in read_text(sidecar).split("\n") if line.strip()]
        labels = (path.parent.name,) if not captions and path.parent != where.root else ()
        kind: Media = "image" if path.suffix.lower() in IMAGES else "video"
        return new_record("folder", name, path, licence="the owner's", labels=labels, captions=captions, media=kind,
                          split=where.split)  # fmt: skip

    yield from records_of((Row(escape_halves(str(path)), path) for path in paths), make)


def _caption_rows(where: Where) -> Iterator[Row | Drop]:
    """Rows of the lists of captions, whose header or objects have `file` and `caption`."""
    if where.named and not where.named.is_file():
        raise ValueError(f"the annotation file is missing: {where.annotations}; name a .csv or .jsonl")
    usual = [where.named] if where.named else [where.root / f"captions.{end}" for end in ("jsonl", "csv")]
    for listed in filter(Path.is_file, usual):
        yield from objects_of(listed) if listed.suffix == ".jsonl" else table_of(listed, "file", "caption")


def webdataset(where: Where) -> Records:
    """Tars of `<key>.jpg|png|webp|mp4` with `<key>.txt` or `<key>.json` (its "caption" or "text"), read in place.

    A tar that is cut short gives what is before the cut, and a drop; a sample whose text is broken is one too, and so
    is every picture or video that is not the only one of its key.
    """
    for tar in sorted(where.root.glob("*.tar")) if where.root.is_dir() else [where.root]:
        if not tar.is_file():
            yield drop_row(str(tar), "it is no regular file")
            continue
        members: dict[str, dict[str, tarfile.TarInfo]] = {}
        drops: list[Drop] = []
        try:
            with tarfile.open(tar, "r:", encoding="utf-8", errors="surrogateescape") as archive:
                fault = _list_members(tar, archive, members, drops)
                yield from drops
                for stem, parts in members.items():
                    yield from _samples(where, tar, archive, stem, parts)
        except (tarfile.TarError, OSError, EOFError) as error:
            fault = str(error)
        if fault:
            yield Drop(slug(tar.stem), "unreadable", f"{escape_halves(str(tar))} is no whole tar: {fault}")


def _list_members(
    tar: Path, archive: tarfile.TarFile, members: dict[str, dict[str, tarfile.TarInfo]], drops: list[Drop]
) -> str:
    """Note the files of a tar by key and ending; returns the error at which reading stopped, "" if there was none."""
    try:
        for info in archive:
            key, ending = key_and_ending(info.name)
            if not _is_media(ending) and ending not in (".txt", ".json"):
                continue
            place = f"{tar}: {info.name}"
            if not info.isfile() or not key:
                drops.append(drop_row(place, "it is no regular member with a name"))
            elif ending in members.get(key, {}):
                drops.append(drop_row(place, "the tar has two members of that name"))
            else:
                members.setdefault(key, {})[ending] = info
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        return str(error)
    return ""


def key_and_ending(name: str) -> tuple[str, str]:
    """Key and ending of a member, as webdataset has them: the ending begins at the first dot of the file's own name."""
    place = name.find(".", name.rfind("/") + 1)
    if place < 0:
        return name, ""
    return (name[:place], name[place:].lower()) if place > name.rfind("/") + 1 else ("", name[place:].lower())


def _is_media(ending: str) -> bool:
    return ending.endswith(IMAGES + VIDEOS)


def _samples(where: Where, tar: Path, archive: tarfile.TarFile, stem: str, parts: Members) -> Records:
    """The record of the files that share a key in a tar, or the reasons why there is none."""
    name = f"{tar.stem}/{stem}"
    media = sorted((ending for ending in parts if _is_media(ending)), key=lambda ending: (ending.count("."), ending))
    if not media:
        yield drop_row(name, f"it has no picture or video: {', '.join(parts)}")
        return
    for other in media[1:]:
        yield drop_row(f"{name}{other}", f"a key stands for one picture or video, here for {media[0]}")

    def make(ending: str) -> Record:
        texts = {kind: _text(archive, parts[kind]) for kind in (".txt", ".json") if kind in parts}
        about = parse_json(texts[".json"], "its .json") if ".json" in texts else {}
        if not isinstance(about, dict):
            raise ValueError("its .json must hold an object")
        caption = next(
            (text for text in (texts.get(".txt"), about.get("caption"), about.get("text")) if _says(text)), ()
        )
        licence = about.get("license")
        return new_record("webdataset", name,
                          f"{tar}?offset={parts[ending].offset_data}&length={parts[ending].size}",
                          licence=licence if isinstance(licence, str) and licence else "unknown",
                          captions=captions_of(caption) if caption else (),
                          media="image" if ending.endswith(IMAGES) else "video", split=where.split)  # fmt: skip

    yield from records_of([Row(f"the text of {name}", media[0])], make)


def _says(text: Any) -> bool:
    """Whether it is a caption, or a list of them."""
    return bool(text) and (isinstance(text, str) or (isinstance(text, list) and all(isinstance(t, str) for t in text)))


def _text(archive: tarfile.TarFile, info: tarfile.TarInfo) -> str:
    if info.size > MOST_TEXT:
        raise ValueError(f"a text has at most {MOST_TEXT >> 20} MiB: got {info.size} bytes")
    file = archive.extractfile(info)
    return file.read().decode("utf-8-sig").strip() if file else ""


def parquet(where: Where) -> Records:
    """Parquet tables with a caption (`caption`, `text` or `TEXT`) and a picture: bytes in `image` (as Hugging Face
    stores them), `jpg` or `bytes`, or a path in `path`, `file` or `image_path`."""
    import pyarrow as pa  # noqa: PLC0415 - only some data sets need it
    import pyarrow.parquet as pq  # noqa: PLC0415

    for table in sorted(where.root.glob("*.parquet")) if where.root.is_dir() else [where.root]:
        try:
            if not table.is_file():
                raise ValueError("it is no regular file")
            names = pq.read_schema(table).names
        except (ValueError, OSError, pa.ArrowException) as error:
            yield drop_row(str(table), error)
            continue
        caption = _first_of(names, ("caption", "text", "TEXT"), table)
        held = next((name for name in ("image", "jpg", "bytes") if name in names), None)
        path = None if held else _first_of(names, ("path", "file", "image_path"), table)
        inside = Where(table.parent, outside=where.outside)

        def make(
            numbered: tuple[int, Mapping[str, Any]], table: Path = table, caption: str = caption,
            held: str | None = held, path: str | None = path, inside: Where = inside,
        ) -> Record:  # fmt: skip
            number, row = numbered
            uri = f"{table}?column={held}&row={number}" if path is None else inside.first(text_in(row, path))
            captions = () if row[caption] in (None, "") else captions_of(row[caption])
            return new_record("parquet", f"{table.stem}/{number}", uri, licence="unknown", captions=captions,
                              media="image", split=where.split)  # fmt: skip

        try:
            yield from records_of(_table_rows(pq.ParquetFile(table), table, [caption, *([path] if path else [])]), make)
        except (OSError, pa.ArrowException) as error:
            yield drop_row(str(table), f"it cannot be read any further: {error}")


def _table_rows(file: Any, table: Path, columns: Sequence[str]) -> Iterator[Row]:
    number = 0
    for batch in file.iter_batches(columns=columns):
        for row in batch.to_pylist():
            yield Row(f"{table}, row {number}", (number, row))
            number += 1


def _first_of(names: list[str], wanted: tuple[str, ...], table: Path) -> str:
    for name in wanted:
        if name in names:
            return name
    raise ValueError(f"{table} must have a column {' or '.join(wanted)}: it has {', '.join(names)}")
