"""From the annotation files of known data sets to records. Nothing is downloaded; a file that is missing on the disk is
noticed and counted when it is read, and is never fatal.

Each adapter says the layout that it expects. License and source go with every record: they are what the sets say of
themselves, not legal advice.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidrd.data.generic_adapters import folder, parquet, webdataset
from vidrd.data.layout import (
    VIDEOS,
    Records,
    Row,
    Where,
    captions_of,
    drop_row,
    files_by_stem,
    lines_of,
    new_record,
    objects_of,
    records_of,
    seconds_in,
    table_of,
    text_in,
)
from vidrd.data.record import Drop, Record


def kinetics(where: Where) -> Records:
    """Kinetics: CSV `label,youtube_id,time_start,time_end,split` (lists of a test may lack the label); files
    `<id>_<start:06d>_<end:06d>.mp4` or `<id>.mp4`, at the root, in a folder of the split, of the label, or of both. Of
    `<id>.mp4` only the labeled seconds count. Lists lie at the root, in `annotations/` or in the set's own folder, as
    `kinetics700_2020/`; that of "val" is also called "validate", and names may begin with the set's, as
    `kinetics-400_train.csv`."""
    videos = files_by_stem(where.root, VIDEOS)
    folders = ("", "annotations", *(f"kinetics{name}" for name in ("700_2020", "700-2020", "700", "600", "400")))
    parts = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}
    usual = {
        part: tuple(f"{before}{name}.csv" for before in ("", "k*_") for name in names) for part, names in parts.items()
    }
    whole = {"": ("kinetics700.csv",)} if (where.root / "kinetics700.csv").is_file() else usual
    for part, listed in where.lists(whole, folders):

        def make(row: Mapping[str, str], part: str = part) -> Record | None:
            split = row.get("split") or part
            if not where.takes(split):
                return None
            name, times = text_in(row, "youtube_id"), (seconds_in(row, "time_start"), seconds_in(row, "time_end"))
            stem = f"{name}_{round(times[0]):06d}_{round(times[1]):06d}"
            path = videos.get(stem) or videos.get(name) or where.first(f"{stem}.mp4")
            return new_record("kinetics", stem, path, labels=(row["label"],) if row.get("label") else (), split=split,
                              licence="annotations CC BY 4.0; videos: YouTube's terms, research",
                              seconds=times if path.stem == name else None)  # fmt: skip

        yield from records_of(table_of(listed, "youtube_id", "time_start", "time_end", optional=("label",)), make)


def moments(where: Where) -> Records:
    """Moments in Time: `trainingSet.csv` or `validationSet.csv` without header, first column `label/file.mp4`, under
    root, `training/` or `validation/`; all of it at the root or in a folder as `Moments_in_Time_Raw/`, or apart in
    `annotations/` and `videos/`."""
    releases = sorted(path.name for path in where.root.glob("Moments_in_Time*") if path.is_dir())
    folders = ("", "annotations", "videos", *releases)
    for _, listed in where.lists({"train": ("trainingSet.csv",), "val": ("validationSet.csv",)}, folders):
        part = "validation" if "valid" in listed.name.lower() else "training"

        def make(fields: list[str], part: str = part) -> Record:
            label, slash, _ = fields[0].partition("/")
            if not slash:
                raise ValueError(f"the first column must be label/file.mp4: got {fields[0]!r:.80}")
            names = [f"{folder}/{inner}/{fields[0]}" for folder in folders for inner in (part, "")]
            path = where.first(*(name.strip("/").replace("//", "/") for name in names))
            return new_record("moments", fields[0], path, licence="non-commercial research, by the set's form",
                              labels=(label.replace("+", " "),), split=part)  # fmt: skip

        yield from records_of(table_of(listed), make)


def videolt(where: Where) -> Records:
    """VideoLT: `train.lst`, `validate.lst` or `test.lst`, lines `<youtube id> <label>[,<label>...]`; the classes' names
    in `count-labels-train.lst` next to them (lines `<name> <number> <count>`), or in `labels.txt`, one a line; long,
    untrimmed videos `<id>.mp4`."""
    videos = files_by_stem(where.root, VIDEOS)
    usual = {"train": ("train.lst",), "val": ("validate.lst", "val.lst"), "test": ("test.lst",)}
    for _, listed in where.lists(usual, ("", "labels", "annotations")):
        names = _names_of(listed.parent)

        def make(line: str, listed: Path = listed, names: Mapping[str, str] = names) -> Record:
            name, _, rest = line.strip().replace("\t", " ").partition(" ")
            labels = tuple(label.strip() for label in rest.split(",") if label.strip())
            if not labels:
                raise ValueError("a line must be an id and its classes")
            if unknown := [label for label in labels if label.isdigit() and label not in names]:
                if not names:
                    raise _NoNamesError(
                        f"the classes of {listed} are numbers: put count-labels-train.lst, which names them, next to it"
                    )
                raise ValueError(f"no class has the number {', '.join(unknown)}")
            path = videos.get(name) or where.first(f"{name}.mp4")
            return new_record("videolt", name, path, licence="non-commercial research, by e-mail",
                              labels=tuple(names.get(label, label) for label in labels), split=listed.stem)  # fmt: skip

        yield from records_of(lines_of(listed), make)


class _NoNamesError(Exception):
    """All lines are wrong for one reason."""


def _names_of(folder: Path) -> dict[str, str]:
    """Class names by number, from the official list of their counts or from a list of names; none if neither exists."""
    names: dict[str, str] = {}
    for listed in sorted((*folder.glob("count-labels*.lst"), *folder.glob("count-labels*.csv"))):
        for row in lines_of(listed):
            match = re.fullmatch(r"(.*\S)[\s,]+(\d+)[\s,]+[\d.]+", row.value.strip()) if isinstance(row, Row) else None
            if match:
                names.setdefault(match[2], match[1])
    listed = folder / "labels.txt"
    if not names and listed.is_file():
        names = {str(number): row.value.strip() for number, row in enumerate(lines_of(listed)) if isinstance(row, Row)}
    return names


def webvid(where: Where) -> Records:
    """WebVid: CSV `videoid,contentUrl,duration,page_dir,name`, name is the caption; files `<page_dir>/<videoid>.mp4`,
    in `videos/`, in `data/videos/` or at the root; lists at the root or in `metadata/`. The set was withdrawn: only for
    those who hold a copy by right."""
    videos = files_by_stem(where.root, VIDEOS)
    parts = ("train", "val")
    usual = {part: (f"results_2M_{part}.csv", f"results_10M_{part}.csv", f"{part}.csv") for part in parts}
    for split, listed in where.lists(usual, ("", "metadata", "data/metadata")):

        def make(row: Mapping[str, str], split: str = split) -> Record:
            name, page = f"{text_in(row, 'videoid')}.mp4", (row.get("page_dir") or "").strip("/")
            below = f"{page}/{name}".lstrip("/")
            path = where.first(f"videos/{below}", below, f"data/videos/{below}")
            return new_record("webvid", row["videoid"], path if path.is_file() else videos.get(row["videoid"], path),
                              licence="withdrawn by its makers; Shutterstock's footage",
                              captions=(text_in(row, "name"),), split=split)  # fmt: skip

        yield from records_of(table_of(listed, "videoid", "name"), make)


def tgif(where: Where) -> Records:
    """TGIF: TSV `url<TAB>sentence`, several lines per GIF; files named as the url ends, `.gif` or `.mp4`. A split is
    the urls of `splits/<split>.txt` next to the TSV."""
    videos = files_by_stem(where.root, VIDEOS)
    sentences_of: dict[str, list[str]] = {}
    ((_, listed),) = where.lists({"": ("tgif-v1.0.tsv",)}, ("", "data", "TGIF-Release/data"))
    urls = listed.parent / "splits" / f"{where.split}.txt"
    if where.split and not urls.is_file():
        raise ValueError(f"split {where.split} needs its list of urls, {urls}: it is missing")
    chosen = {Path(row.value.strip()).stem for row in lines_of(urls) if isinstance(row, Row)} if where.split else None
    for row in lines_of(listed):
        if isinstance(row, Drop):
            yield row
            continue
        url, tab, sentence = row.value.partition("\t")
        if not tab or not sentence.strip() or not Path(url.strip()).stem:
            yield drop_row(row.place, "a line must be a url, a tab and a sentence")
        elif chosen is None or Path(url.strip()).stem in chosen:
            sentences_of.setdefault(Path(url.strip()).stem, []).append(sentence)

    def make(stem: str) -> Record:
        path = videos.get(stem) or where.first(f"{stem}.gif")
        return new_record("tgif", stem, path, licence="research; GIFs: Tumblr's users",
                          captions=sentences_of[stem], split=where.split)  # fmt: skip

    yield from records_of((Row(f"{listed}, {stem}", stem) for stem in sentences_of), make)


def vatex(where: Where) -> Records:
    """VATEX: JSON list of `{"videoID": "<id>_<start>_<end>", "enCap": [...]}`, named as the set has them; files
    `<videoID>.mp4` or `<id>.mp4`, whole or cut to their ten seconds. Chinese captions are left out."""
    videos = files_by_stem(where.root, VIDEOS)
    usual = {
        "train": ("vatex_training_v1.0.json", "vatex_training.json"),
        "val": ("vatex_validation_v1.0.json", "vatex_validation.json"),
        "test": ("vatex_public_test_english_v1.1.json", "vatex_public_test_v1.0.json", "vatex_public_test.json"),
    }
    for split, listed in where.lists(usual, ("", "annotations")):

        def make(row: Mapping[str, Any], split: str = split) -> Record:
            name = text_in(row, "videoID")
            timed = re.fullmatch(r"(.+)_(\d{6})_(\d{6})", name[:200])
            bare = timed[1] if timed else name
            path = videos.get(name) or videos.get(bare) or where.first(f"{name}.mp4")
            seconds = (float(timed[2]), float(timed[3])) if timed and path.stem == bare else None
            captions = captions_of(row["enCap"]) if row.get("enCap") else ()
            return new_record("vatex", name, path, licence="captions CC BY 4.0; videos: YouTube's terms",
                              captions=captions, split=split, seconds=seconds)  # fmt: skip

        yield from records_of(objects_of(listed), make)


def ucf101(where: Where) -> Records:
    """UCF-101: `UCF-101/<Class>/v_*.avi`; with `ucfTrainTestlist/<split>.txt` (as trainlist01) only that split's files,
    by their full relative path, since a class's folder and its files' stems may differ in case."""
    prefix = "UCF-101/" if (where.root / "UCF-101").is_dir() else ""
    if where.split:
        lists = where.named or where.root / "ucfTrainTestlist"
        listed = lists if lists.is_file() else lists / f"{where.split}.txt"
        if not listed.is_file():
            raise ValueError(f"split {where.split} needs {listed}: name the folder ucfTrainTestlist by --annotations")
        rows: Iterator[Row | Drop] = lines_of(listed)
    else:
        root = where.root / prefix
        names = sorted(path.relative_to(root).as_posix() for path in root.glob("*/*.avi"))
        rows = (Row(name, name) for name in names)

    def make(line: str) -> Record:
        name = re.sub(r"\s+\d+$", "", line.strip())  # lists of training name the class's number too
        return new_record("ucf101", name, where.first(prefix + name), labels=(name.split("/")[0],), split=where.split,
                          licence="no formal license; research, cite arXiv 1212.0402")  # fmt: skip

    yield from records_of(rows, make)


ADAPTERS: Mapping[str, Callable[[Where], Records]] = {
    "kinetics700": kinetics,
    "moments": moments,
    "videolt": videolt,
    "webvid": webvid,
    "tgif": tgif,
    "vatex": vatex,
    "ucf101": ucf101,
    "folder": folder,
    "webdataset": webdataset,
    "parquet": parquet,
}


def records(name: str, where: Where) -> Records:
    """All records of a data set, each with a key that starts with its number; a `Drop` takes the place of a broken one.

    Raises:
        ValueError: no such adapter, or what it needs is not there.
    """
    if name not in ADAPTERS:
        raise ValueError(f"a data set's format is one of {', '.join(ADAPTERS)}: got {name}")
    if not where.root.exists():
        raise ValueError(f"{where.root} does not exist: name the folder that holds the media by --root")
    try:
        for number, record in enumerate(ADAPTERS[name](where)):
            yield replace(record, key=f"{number:08d}_{record.key}")
    except _NoNamesError as error:
        raise ValueError(str(error)) from None
