"""From the annotation files of known data sets to records. Nothing is downloaded; what is missing on the disk is found
out when it is read, counted, and never fatal.

Each adapter says the layout that it expects. Licence and source go with every record: they are what the sets say of
themselves, not legal advice.
"""

import csv
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vidrd.data.record import Media, Record, slug

VIDEOS = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".gif", ".m4v", ".mpg", ".mpeg")
IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Where:
    """What an adapter is told."""

    root: Path  # folder of the media
    annotations: Path | None = None  # the set's own list; None: the usual place under root, or none needed
    split: str = ""  # "" means all

    def listed(self, *usual: str) -> Path:
        """The annotation file.

        Raises:
            ValueError: there is none.
        """
        for path in [self.annotations] if self.annotations else [self.root / name for name in usual]:
            if path and path.exists():
                return path
        wanted = self.annotations or f"{' or '.join(usual)} in {self.root}"
        raise ValueError(f"the annotation file is missing: {wanted}; name it by --annotations")


def kinetics(where: Where) -> Iterator[Record]:
    """Kinetics: CSV `label,youtube_id,time_start,time_end,split`; files `<id>_<start:06d>_<end:06d>.mp4` or `<id>.mp4`,
    at the root, in a folder of the split, of the label, or of both."""
    found = _index(where.root, VIDEOS)
    with where.listed("kinetics700.csv", "train.csv", "annotations/train.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            _need(row, "label", "youtube_id", "time_start", "time_end")
            split = row.get("split") or where.split
            if where.split and split != where.split:
                continue
            begin, end = (round(float(row[name])) for name in ("time_start", "time_end"))
            stem = f"{row['youtube_id']}_{begin:06d}_{end:06d}"
            path = found.get(stem) or found.get(row["youtube_id"]) or where.root / f"{stem}.mp4"
            yield _record("kinetics", stem, path, licence="annotations CC BY 4.0; videos: YouTube's terms, research",
                          labels=(row["label"],), split=split)  # fmt: skip


def moments(where: Where) -> Iterator[Record]:
    """Moments in Time: `trainingSet.csv` or `validationSet.csv` without header, first column `label/file.mp4`, under
    root, `training/` or `validation/`."""
    names = {"train": ("trainingSet.csv",), "val": ("validationSet.csv",)}.get(where.split) or (
        "trainingSet.csv",
        "validationSet.csv",
    )
    listed = where.listed(*names)
    part = "validation" if "valid" in listed.name.lower() else "training"
    with listed.open(newline="") as file:
        for row in csv.reader(file):
            if not row:
                continue
            name = row[0]
            path = next((p for p in (where.root / part / name, where.root / name) if p.is_file()), where.root / name)
            yield _record("moments", name, path, licence="non-commercial research, by the set's form",
                          labels=(name.split("/")[0].replace("+", " "),), split=part)  # fmt: skip


def videolt(where: Where) -> Iterator[Record]:
    """VideoLT: `train.lst`, `validate.lst` or `test.lst`, lines `<youtube id> <label>[,<label>...]`, numbers looked up
    in `count-labels-*.csv` or `labels.txt` if there; long, untrimmed videos `<id>.mp4`."""
    found = _index(where.root, VIDEOS)
    listed = where.listed(*([f"{where.split}.lst"] if where.split else ["train.lst", "validate.lst", "test.lst"]))
    names = _names_of(listed.parent)
    for line in listed.read_text().splitlines():
        words = re.split(r"[\s\t]+", line.strip(), maxsplit=1)
        if len(words) < 2:
            continue
        labels = tuple(names.get(label.strip(), label.strip()) for label in words[1].split(","))
        path = found.get(words[0]) or where.root / f"{words[0]}.mp4"
        yield _record("videolt", words[0], path, licence="non-commercial research, by e-mail", labels=labels,
                      split=listed.stem)  # fmt: skip


def webvid(where: Where) -> Iterator[Record]:
    """WebVid: CSV `videoid,contentUrl,duration,page_dir,name`, name is the caption; files `<page_dir>/<videoid>.mp4`,
    in `videos/` or at the root. The set was withdrawn: only for those who hold a copy by right."""
    found = _index(where.root, VIDEOS)
    with where.listed("results_2M_train.csv", "results_10M_train.csv", "train.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            _need(row, "videoid", "name")
            page = row.get("page_dir") or ""
            options = [where.root / "videos" / page, where.root / page]
            path = next((p / f"{row['videoid']}.mp4" for p in options if (p / f"{row['videoid']}.mp4").is_file()), None)
            path = path or found.get(row["videoid"]) or options[0] / f"{row['videoid']}.mp4"
            yield _record("webvid", row["videoid"], path, licence="withdrawn by its makers; Shutterstock's footage",
                          captions=(row["name"],), split=where.split)  # fmt: skip


def tgif(where: Where) -> Iterator[Record]:
    """TGIF: TSV `url<TAB>sentence`, several lines a GIF; files named as the url ends, `.gif` or `.mp4`."""
    found = _index(where.root, VIDEOS)
    said: dict[str, list[str]] = {}
    for line in where.listed("tgif-v1.0.tsv", "data/tgif-v1.0.tsv").read_text().splitlines():
        url, _, sentence = line.partition("\t")
        if sentence:
            said.setdefault(Path(url).stem, []).append(sentence.strip())
    for stem, sentences in said.items():
        path = found.get(stem) or where.root / f"{stem}.gif"
        yield _record("tgif", stem, path, licence="research; GIFs: Tumblr's users", captions=tuple(sentences),
                      split=where.split)  # fmt: skip


def vatex(where: Where) -> Iterator[Record]:
    """VATEX: JSON list of `{"videoID": "<id>_<start>_<end>", "enCap": [...]}`; files `<videoID>.mp4` or `<id>.mp4`,
    whole or cut to their ten seconds. Chinese captions are left out."""
    found = _index(where.root, VIDEOS)
    listed = where.listed("vatex_training_v1.0.json", "vatex_validation_v1.0.json", "vatex_training.json")
    for row in json.loads(listed.read_text()):
        name = row["videoID"]
        bare = re.sub(r"_\d{6}_\d{6}$", "", name)
        path = found.get(name) or found.get(bare) or where.root / f"{name}.mp4"
        yield _record("vatex", name, path, licence="captions CC BY 4.0; videos: YouTube's terms",
                      captions=tuple(row.get("enCap", ())), split=where.split)  # fmt: skip


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
    """Any folder of videos and pictures: captions in `<file>.txt` beside each (a line each), in `captions.jsonl`
    (`{"file": ..., "caption": ...}`) or `captions.csv` (`file,caption`); else the folder's name is the class."""
    said = _captions(where)
    for path in sorted(p for p in where.root.rglob("*") if p.suffix.lower() in VIDEOS + IMAGES):
        name = path.relative_to(where.root).as_posix()
        beside = path.with_suffix(".txt")
        captions = said.get(name) or said.get(path.stem) or ()
        if not captions and beside.is_file():
            captions = tuple(line.strip() for line in beside.read_text().splitlines() if line.strip())
        labels = (path.parent.name,) if not captions and path.parent != where.root else ()
        media: Media = "image" if path.suffix.lower() in IMAGES else "video"
        yield _record("folder", name, path, licence="the owner's", labels=labels, captions=captions, media=media,
                      split=where.split)  # fmt: skip


def webdataset(where: Where) -> Iterator[Record]:
    """Tars of `<key>.jpg|png|webp|mp4` with `<key>.txt` or `<key>.json` (its "caption" or "text"), read in place."""
    for tar in sorted(where.root.glob("*.tar")) if where.root.is_dir() else [where.root]:
        members: dict[str, dict[str, tarfile.TarInfo]] = {}
        with tarfile.open(tar) as archive:
            for info in archive:
                stem, _, ending = info.name.partition(".")
                if info.isfile():
                    members.setdefault(stem, {})[f".{ending.lower()}"] = info
            for stem, parts in members.items():
                media = next((ending for ending in parts if ending in IMAGES + VIDEOS), None)
                if media is None:
                    continue
                texts = {e: _text(archive, parts[e]) for e in (".txt", ".json") if e in parts}
                caption = texts.get(".txt") or ""
                about = json.loads(texts[".json"]) if ".json" in texts else {}
                caption = caption or about.get("caption") or about.get("text") or ""
                uri = f"{tar}?offset={parts[media].offset_data}&length={parts[media].size}"
                yield _record("webdataset", f"{tar.stem}/{stem}", uri, licence=about.get("license", "unknown"),
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


ADAPTERS: Mapping[str, Callable[[Where], Iterator[Record]]] = {
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


def records(name: str, where: Where) -> Iterator[Record]:
    """All records of a data set, each with a key that starts with its number.

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
    captions: Iterable[str] = (), media: Media = "video", split: str = "",
) -> Record:  # fmt: skip
    tidy = tuple(" ".join(caption.split()) for caption in captions)
    return Record(slug(name), str(uri), source, licence, media, labels=labels, captions=tidy, split=split)


def _index(root: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """Files below a folder by stem."""
    return {path.stem: path for path in sorted(root.rglob("*")) if path.suffix.lower() in endings}


def _captions(where: Where) -> dict[str, tuple[str, ...]]:
    said: dict[str, list[str]] = {}
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
            said.setdefault(row["file"], []).append(row["caption"])
    return {name: tuple(captions) for name, captions in said.items()}


def _names_of(folder: Path) -> dict[str, str]:
    """Class names by number, where a list of them lies beside."""
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
