"""From the annotation files of known data sets to records. Nothing is downloaded; a file that is missing on the disk is
noticed and counted when it is read, and is never fatal.

Each adapter says the layout that it expects. Licence and source go with every record: they are what the sets say of
themselves, not legal advice.
"""

import csv
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vidrd.data.record import Drop, Media, Record, slug

VIDEOS = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".gif", ".m4v", ".mpg", ".mpeg")
IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MEMBER = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")  # key and ending of a file in a tar, as webdataset has them


@dataclass(frozen=True)
class Where:
    """Where an adapter looks, and for which split."""

    root: Path  # folder of the media
    annotations: Path | None = None  # the set's own list; None: the usual place under root, or none needed
    split: str = ""  # "" means all; "val" is also "validate" and "validation"

    def lists(self, usual: Mapping[str, Sequence[str]]) -> list[tuple[str, Path]]:
        """Annotation files, each with its split: the named one, or for every wanted split the first that exists.

        `usual`: names below the root by split; those under "" are of all.

        Raises:
            ValueError: there is none, or no such split.
        """
        if self.annotations:
            lists = [(self.split, self.annotations)] if self.annotations.exists() else []
            wanted = str(self.annotations)
        else:
            parts = [part for part in usual if self.takes(part)]
            if not parts:
                raise ValueError(f"the set's splits are {', '.join(filter(None, usual))}: got {self.split}")
            there = {part: [p for name in usual[part] if (p := self.root / name).exists()] for part in parts}
            lists = [(part, paths[0]) for part, paths in there.items() if paths]
            wanted = f"{' or '.join(name for part in parts for name in usual[part])} in {self.root}"
        if not lists:
            raise ValueError(f"the annotation file is missing: {wanted}; name it by --annotations")
        return lists

    def takes(self, split: str) -> bool:
        """Whether rows of that split are wanted; rows without a split are."""
        return not self.split or not split or self.split.startswith(split) or split.startswith(self.split)


def kinetics(where: Where) -> Iterator[Record]:
    """Kinetics: CSV `label,youtube_id,time_start,time_end,split`; files `<id>_<start:06d>_<end:06d>.mp4` or `<id>.mp4`,
    at the root, in a folder of the split, of the label, or of both. Of `<id>.mp4` only the labeled seconds count."""
    videos = _index(where.root, VIDEOS)
    usual = {part: (f"{part}.csv", f"annotations/{part}.csv") for part in ("train", "val", "test")}
    whole = {"": ("kinetics700.csv",)} if (where.root / "kinetics700.csv").exists() else usual
    for part, listed in where.lists(whole):
        with listed.open(newline="") as file:
            for row in csv.DictReader(file):
                _need(row, "label", "youtube_id", "time_start", "time_end")
                split = row.get("split") or part
                if not where.takes(split):
                    continue
                times = float(row["time_start"]), float(row["time_end"])
                stem = f"{row['youtube_id']}_{round(times[0]):06d}_{round(times[1]):06d}"
                path = videos.get(stem) or videos.get(row["youtube_id"]) or where.root / f"{stem}.mp4"
                yield _record("kinetics", stem, path, labels=(row["label"],), split=split,
                              licence="annotations CC BY 4.0; videos: YouTube's terms, research",
                              seconds=times if path.stem == row["youtube_id"] else None)  # fmt: skip


def moments(where: Where) -> Iterator[Record]:
    """Moments in Time: `trainingSet.csv` or `validationSet.csv` without header, first column `label/file.mp4`, under
    root, `training/` or `validation/`."""
    for _, listed in where.lists({"train": ("trainingSet.csv",), "val": ("validationSet.csv",)}):
        part = "validation" if "valid" in listed.name.lower() else "training"
        with listed.open(newline="") as file:
            for name in (row[0] for row in csv.reader(file) if row):
                options = (where.root / part / name, where.root / name)
                path = next((path for path in options if path.is_file()), where.root / name)
                yield _record("moments", name, path, licence="non-commercial research, by the set's form",
                              labels=(name.split("/")[0].replace("+", " "),), split=part)  # fmt: skip


def videolt(where: Where) -> Iterator[Record]:
    """VideoLT: `train.lst`, `validate.lst` or `test.lst`, lines `<youtube id> <label>[,<label>...]`, numbers looked up
    in `count-labels-*.csv` or `labels.txt` if there; long, untrimmed videos `<id>.mp4`."""
    videos = _index(where.root, VIDEOS)
    usual = {"train": ("train.lst",), "val": ("validate.lst", "val.lst"), "test": ("test.lst",)}
    for _, listed in where.lists(usual):
        names = _names_of(listed.parent)
        for line in listed.read_text().splitlines():
            words = line.split(maxsplit=1)
            if len(words) < 2:
                continue
            labels = tuple(names.get(label.strip(), label.strip()) for label in words[1].split(","))
            path = videos.get(words[0]) or where.root / f"{words[0]}.mp4"
            yield _record("videolt", words[0], path, licence="non-commercial research, by e-mail", labels=labels,
                          split=listed.stem)  # fmt: skip


def webvid(where: Where) -> Iterator[Record]:
    """WebVid: CSV `videoid,contentUrl,duration,page_dir,name`, name is the caption; files `<page_dir>/<videoid>.mp4`,
    in `videos/` or at the root. The set was withdrawn: only for those who hold a copy by right."""
    videos = _index(where.root, VIDEOS)
    parts = ("train", "val")
    usual = {part: (f"results_2M_{part}.csv", f"results_10M_{part}.csv", f"{part}.csv") for part in parts}
    for split, listed in where.lists(usual):
        with listed.open(newline="") as file:
            for row in csv.DictReader(file):
                _need(row, "videoid", "name")
                name, page = f"{row['videoid']}.mp4", row.get("page_dir") or ""
                options = [where.root / "videos" / page / name, where.root / page / name]
                path = next((path for path in options if path.is_file()), None)
                yield _record("webvid", row["videoid"], path or videos.get(row["videoid"]) or options[0],
                              licence="withdrawn by its makers; Shutterstock's footage", captions=(row["name"],),
                              split=split)  # fmt: skip


def tgif(where: Where) -> Iterator[Record]:
    """TGIF: TSV `url<TAB>sentence`, several lines per GIF; files named as the url ends, `.gif` or `.mp4`. A split is
    the urls of `splits/<split>.txt` next to the TSV."""
    videos = _index(where.root, VIDEOS)
    captions_of: dict[str, list[str]] = {}
    ((_, listed),) = where.lists({"": ("tgif-v1.0.tsv", "data/tgif-v1.0.tsv")})
    urls = listed.parent / "splits" / f"{where.split}.txt"
    if where.split and not urls.is_file():
        raise ValueError(f"split {where.split} needs its list of urls, {urls}: it is missing")
    chosen = {Path(url).stem for url in urls.read_text().split()} if where.split else None
    for line in listed.read_text().splitlines():
        url, _, sentence = line.partition("\t")
        if sentence and (chosen is None or Path(url).stem in chosen):
            captions_of.setdefault(Path(url).stem, []).append(sentence.strip())
    for stem, sentences in captions_of.items():
        path = videos.get(stem) or where.root / f"{stem}.gif"
        yield _record("tgif", stem, path, licence="research; GIFs: Tumblr's users", captions=tuple(sentences),
                      split=where.split)  # fmt: skip


def vatex(where: Where) -> Iterator[Record]:
    """VATEX: JSON list of `{"videoID": "<id>_<start>_<end>", "enCap": [...]}`; files `<videoID>.mp4` or `<id>.mp4`,
    whole or cut to their ten seconds. Chinese captions are left out."""
    videos = _index(where.root, VIDEOS)
    parts = {"train": "training", "val": "validation", "test": "public_test"}
    usual = {part: (f"vatex_{name}_v1.0.json", f"vatex_{name}.json") for part, name in parts.items()}
    for split, listed in where.lists(usual):
        for row in json.loads(listed.read_text()):
            name = row["videoID"]
            timed = re.fullmatch(r"(.+)_(\d{6})_(\d{6})", name)
            bare = timed[1] if timed else name
            path = videos.get(name) or videos.get(bare) or where.root / f"{name}.mp4"
            seconds = (float(timed[2]), float(timed[3])) if timed and path.stem == bare else None
            yield _record("vatex", name, path, licence="captions CC BY 4.0; videos: YouTube's terms",
                          captions=tuple(row.get("enCap", ())), split=split, seconds=seconds)  # fmt: skip


def ucf101(where: Where) -> Iterator[Record]:
    """UCF-101: `UCF-101/<Class>/v_*.avi`; with `ucfTrainTestlist/<split>.txt` (as trainlist01) only that split's files,
    by their full relative path, since a class's folder and its files' stems may differ in case."""
    root = where.root / "UCF-101" if (where.root / "UCF-101").is_dir() else where.root
    licence = "no formal licence; research, cite arXiv 1212.0402"
    if where.split:
        lists = where.annotations or where.root / "ucfTrainTestlist"
        listed = lists if lists.is_file() else lists / f"{where.split}.txt"
        if not listed.is_file():
            raise ValueError(f"split {where.split} needs {listed}: name the folder ucfTrainTestlist by --annotations")
        names = [line.split()[0] for line in listed.read_text().splitlines() if line.strip()]
    else:
        names = sorted(path.relative_to(root).as_posix() for path in root.glob("*/*.avi"))
    for name in names:
        yield _record("ucf101", name, root / name, licence=licence, labels=(name.split("/")[0],), split=where.split)


def folder(where: Where) -> Iterator[Record]:
    """Any folder of videos and pictures: captions in `<file>.txt` next to each (one per line), in `captions.jsonl`
    (`{"file": ..., "caption": ...}`) or `captions.csv` (`file,caption`); else the folder's name is the class."""
    captions_of = _captions(where)
    for path in sorted(p for p in where.root.rglob("*") if p.suffix.lower() in VIDEOS + IMAGES):
        name = path.relative_to(where.root).as_posix()
        sidecar = path.with_suffix(".txt")
        captions = captions_of.get(name) or captions_of.get(path.stem) or ()
        if not captions and sidecar.is_file():
            captions = tuple(line.strip() for line in sidecar.read_text().splitlines() if line.strip())
        labels = (path.parent.name,) if not captions and path.parent != where.root else ()
        media: Media = "image" if path.suffix.lower() in IMAGES else "video"
        yield _record("folder", name, path, licence="the owner's", labels=labels, captions=captions, media=media,
                      split=where.split)  # fmt: skip


def webdataset(where: Where) -> Iterator[Record | Drop]:
    """Tars of `<key>.jpg|png|webp|mp4` with `<key>.txt` or `<key>.json` (its "caption" or "text"), read in place.

    A tar that is cut short gives what is before the cut, and a drop; a sample whose text is broken is one too.
    """
    for tar in sorted(where.root.glob("*.tar")) if where.root.is_dir() else [where.root]:
        members: dict[str, dict[str, tarfile.TarInfo]] = {}
        try:
            with tarfile.open(tar, "r:") as archive:
                fault = _list_members(archive, members)
                for stem, parts in members.items():
                    media = next((ending for ending in parts if ending in IMAGES + VIDEOS), None)
                    if media is not None:
                        yield _sample(where, tar, archive, stem, parts, media)
        except tarfile.TarError as error:
            fault = str(error)
        if fault:
            yield Drop(slug(tar.stem), "unreadable", f"{tar} is no whole tar: {fault}")


def _list_members(archive: tarfile.TarFile, members: dict[str, dict[str, tarfile.TarInfo]]) -> str:
    """Note the files of a tar by key and ending; returns the error at which reading stopped, "" if there was none."""
    try:
        for info in archive:
            match = MEMBER.fullmatch(info.name)
            if info.isfile() and match:
                members.setdefault(match[1], {})[f".{match[2].lower()}"] = info
    except tarfile.TarError as error:
        return str(error)
    return ""


def _sample(
    where: Where, tar: Path, archive: tarfile.TarFile, stem: str, parts: Mapping[str, tarfile.TarInfo], media: str
) -> Record | Drop:
    """The record of the files that share a key in a tar, or the reason why there is none."""
    name = f"{tar.stem}/{stem}"
    try:
        texts = {ending: _text(archive, parts[ending]) for ending in (".txt", ".json") if ending in parts}
        about = json.loads(texts.get(".json", "{}"))
        if not isinstance(about, dict):
            raise ValueError("it must hold an object")
    except (ValueError, OSError, tarfile.TarError) as error:
        return Drop(slug(name), "unreadable", f"the text of {name} is broken: {error}")
    texts_in_order = (texts.get(".txt"), about.get("caption"), about.get("text"))
    caption = next((text for text in texts_in_order if text and isinstance(text, str)), "")
    uri = f"{tar}?offset={parts[media].offset_data}&length={parts[media].size}"
    return _record("webdataset", name, uri, licence=str(about.get("license") or "unknown"),
                   captions=(caption,) if caption else (), media="image" if media in IMAGES else "video",
                   split=where.split)  # fmt: skip


def parquet(where: Where) -> Iterator[Record]:
    """Parquet tables with a caption (`caption`, `text` or `TEXT`) and a picture: bytes in `image` (as Hugging Face
    stores them), `jpg` or `bytes`, or a path in `path`, `file` or `image_path`."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    for table in sorted(where.root.glob("*.parquet")) if where.root.is_dir() else [where.root]:
        names = pq.read_schema(table).names
        caption = _first_of(names, ("caption", "text", "TEXT"), table)
        held = next((name for name in ("image", "jpg", "bytes") if name in names), None)
        path = None if held else _first_of(names, ("path", "file", "image_path"), table)
        columns = [caption] + ([path] if path else [])
        rows = (row for batch in pq.ParquetFile(table).iter_batches(columns=columns) for row in batch.to_pylist())
        for number, row in enumerate(rows):
            uri = f"{table}?column={held}&row={number}" if path is None else str(table.parent / row[path])
            yield _record("parquet", f"{table.stem}/{number}", uri, licence="unknown",
                          captions=(row[caption],) if row[caption] else (), media="image",
                          split=where.split)  # fmt: skip


ADAPTERS: Mapping[str, Callable[[Where], Iterator[Record] | Iterator[Record | Drop]]] = {
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


def records(name: str, where: Where) -> Iterator[Record | Drop]:
    """All records of a data set, each with a key that starts with its number; a `Drop` takes the place of a broken one.

    Raises:
        ValueError: no such adapter, or what it needs is not there.
    """
    if name not in ADAPTERS:
        raise ValueError(f"a data set's format is one of {', '.join(ADAPTERS)}: got {name}")
    if not where.root.exists():
        raise ValueError(f"{where.root} does not exist: name the folder that holds the media by --root")
    for number, record in enumerate(ADAPTERS[name](where)):
        yield replace(record, key=f"{number:08d}_{record.key}")


def _record(
    source: str, name: str, uri: Path | str, *, licence: str, labels: tuple[str, ...] = (),
    captions: Iterable[str] = (), media: Media = "video", split: str = "", seconds: tuple[float, float] | None = None,
) -> Record:  # fmt: skip
    tidy = tuple(" ".join(caption.split()) for caption in captions)
    return Record(slug(name), str(uri), source, licence, media, seconds=seconds, labels=labels, captions=tidy,
                  split=split)  # fmt: skip


def _index(root: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """Files below a folder by stem."""
    return {path.stem: path for path in sorted(root.rglob("*")) if path.suffix.lower() in endings}


def _captions(where: Where) -> dict[str, tuple[str, ...]]:
    captions_of: dict[str, list[str]] = {}
    for listed in (
        [where.annotations] if where.annotations else [where.root / "captions.jsonl", where.root / "captions.csv"]
    ):
        if listed is None or not listed.is_file():
            continue
        text = listed.read_text()
        rows: Iterable[Mapping[str, Any]] = (
            [json.loads(line) for line in text.splitlines() if line.strip()]
            if listed.suffix == ".jsonl"
            else csv.DictReader(text.splitlines())
        )
        for row in rows:
            _need(row, "file", "caption")
            captions_of.setdefault(row["file"], []).append(row["caption"])
    return {name: tuple(captions) for name, captions in captions_of.items()}


def _names_of(folder: Path) -> dict[str, str]:
    """Class names by number, from a list of them next to the annotations, if there is one."""
    for listed in [*sorted(folder.glob("count-labels*.csv")), folder / "labels.txt"]:
        if listed.is_file():
            rows = csv.reader(listed.read_text().splitlines())
            pairs = [row if len(row) > 1 else [str(number), row[0]] for number, row in enumerate(rows) if row]
            return {a if a.isdigit() else b: b if a.isdigit() else a for a, b, *_ in pairs}
    return {}


def _need(row: Mapping[str, Any], *names: str) -> None:
    missing = [name for name in names if row.get(name) is None]
    if missing:
        raise ValueError(f"the list must have columns {', '.join(names)}; it lacks {', '.join(missing)}: {dict(row)}")


def _first_of(names: list[str], wanted: tuple[str, ...], table: Path) -> str:
    for name in wanted:
        if name in names:
            return name
    raise ValueError(f"{table} must have a column {' or '.join(wanted)}: it has {', '.join(names)}")


def _text(archive: tarfile.TarFile, info: tarfile.TarInfo) -> str:
    file = archive.extractfile(info)
    return file.read().decode("utf-8", errors="replace").strip() if file else ""
