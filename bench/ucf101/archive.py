"""UCF-101 on the disk, in the archive's own layout: found, compared with the lists, and addressed by split.

Nothing is downloaded and no name is ever rebuilt: what the lists name is what is opened. Frames come from the original
.avi files by order of decoding (`metrics.videos.read`).
"""

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from bench.ucf101.classes import LIST_SHA256, SPLITS, Half, check_split, classes, list_files
from metrics.videos import read

LISTS = "ucfTrainTestlist"
VIDEOS = "UCF-101"
NAME = re.compile(r"(?P<class>\w+)/v_(?P<stem>\w+)_g(?P<group>\d\d)_c(?P<clip>\d\d)\.avi")
SHOWN = 3  # names in a message; the error carries them all
VIDEO_SUFFIXES = {".avi", ".mp4", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg"}
PICTURES = {".jpg", ".jpeg", ".png"}
UNPACK = (
    "UCF101.rar (6.5 GB) comes from https://www.crcv.ucf.edu/data/UCF101.php and unpacks, by `unrar x` or "
    f"`bsdtar -xf`, to {VIDEOS}/<Class>/v_<Class>_gGG_cCC.avi"
)


@dataclass(frozen=True)
class Video:
    """One video of the archive."""

    path: str  # below the archive's folder: "Archery/v_Archery_g01_c01.avi", as the lists have it
    class_name: str
    class_index: int  # 0 to 100
    group: int  # clips of one class and group are cut from one recording
    clip: int
    halves: tuple[str, str, str]  # "train" or "test" in splits 1, 2 and 3
    size: int  # bytes


class ArchiveError(ValueError):
    """The folder is not what the lists say. Every name is kept; the message shows the first few."""

    def __init__(
        self,
        message: str,
        *,
        missing: Iterable[str] = (),  # listed, and not there
        extra: Iterable[str] = (),  # video files there, and not listed
        empty: Iterable[str] = (),  # there, of no bytes
    ) -> None:
        super().__init__(message)
        self.missing, self.extra, self.empty = tuple(missing), tuple(extra), tuple(empty)


@dataclass(frozen=True)
class Archive:
    """A folder that holds what its lists name."""

    root: Path  # the folder of the class folders
    videos: tuple[Video, ...]  # in the order of the lists: by class, group, clip
    class_names: tuple[str, ...]  # by index
    listed: int  # videos that the lists name; more than there are only in a partial archive
    list_sha256: Mapping[str, str]  # of the seven list files

    @property
    def official(self) -> bool:
        """The lists are UCF-101's own."""
        return dict(self.list_sha256) == LIST_SHA256

    @property
    def whole(self) -> bool:
        """Every listed video is there."""
        return len(self.videos) == self.listed

    def of_split(self, number: int, half: Half) -> tuple[Video, ...]:
        """The videos of one half of a split, or with "all" of both, in the order of the lists.

        Raises:
            ValueError: no such split or half.
        """
        check_split(number, half)
        return tuple(video for video in self.videos if half in ("all", video.halves[number - 1]))

    def counts(self, number: int, half: Half) -> dict[str, int]:
        """How many videos of each class are in one half of a split; classes in the order of their index."""
        counts = Counter(video.class_name for video in self.of_split(number, half))
        return {name: counts[name] for name in self.class_names}

    def video_files(self, number: int, half: Half) -> list[read.Video]:
        """The same videos as `metrics` reads them, named by their path."""
        return [read.Video(video.path, self.root / video.path, "file") for video in self.of_split(number, half)]

    def manifest(self) -> dict[str, object]:
        """What says which data this is: hashes of all names and sizes and of the list files, and counts."""
        lines = "".join(f"{video.path}\t{video.size}\n" for video in self.videos)
        return {
            "data_set": "UCF-101" if self.official else "in the layout of UCF-101, with lists of its own",
            "videos": len(self.videos),
            "listed": self.listed,
            "classes": len(self.class_names),
            "bytes": sum(video.size for video in self.videos),
            "names_and_sizes_sha256": hashlib.sha256(lines.encode()).hexdigest(),
            "lists_sha256": dict(self.list_sha256),
        }


def read_archive(
    path: Path | str,
    *,
    splits: Path | str | None = None,  # the folder ucfTrainTestlist; None: next to or in the archive, else built in
    allow_partial: bool = False,  # take what is there of what the lists name
) -> Archive:
    """Compare an unpacked archive with the lists; `path` is the folder UCF-101 or its parent.

    Raises:
        ArchiveError: videos are missing, unlisted or empty, or the folder is another thing.
        ValueError: the lists are missing, broken, or contradict themselves.
    """
    root = find_root(Path(path))
    contents = _read_lists(find_lists(Path(path), root, splits))
    names, halves = parse_lists(contents)
    there = dict(_list_video_files(root))
    missing = [name for name in halves if name not in there]
    extra = sorted(name for name in there if name not in halves)
    empty = [name for name in halves if there.get(name) == 0]
    if extra or empty or (missing and not allow_partial) or len(missing) == len(halves):
        raise ArchiveError(_faults(root, len(halves), missing, extra, empty), missing=missing, extra=extra, empty=empty)
    index = {name: number for number, name in enumerate(names)}
    videos = []
    for name, half in halves.items():
        if name in there:
            about = _parse_name(name)
            videos.append(Video(name, about["class"], index[about["class"]], int(about["group"]), int(about["clip"]),
                                half, there[name]))  # fmt: skip
    videos.sort(key=lambda video: (video.class_index, video.group, video.clip))
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    return Archive(root, tuple(videos), tuple(names), len(halves), hashes)


def find_root(path: Path) -> Path:
    """The folder that holds the class folders.

    Raises:
        ArchiveError: nothing there, or another thing; the message says what it looks like.
    """
    if not path.exists():
        raise ArchiveError(f"{path} does not exist; {UNPACK}")
    if path.is_file():
        packed = path.suffix.lower() in {".rar", ".zip", ".tar", ".gz"}
        what = "is still packed" if packed else "is a file"
        raise ArchiveError(f"{path} {what}, the unpacked folder is needed; {UNPACK}")
    for root in (path / VIDEOS, path, path / VIDEOS / VIDEOS):
        if _class_folders(root):
            return root
    raise ArchiveError(f"{path} is not UCF-101: {_looks_like(path)}; {UNPACK}")


def _class_folders(root: Path) -> bool:
    """Whether the folder has class folders with files like v_*_gNN_cNN.avi."""
    if not root.is_dir():
        return False
    folders = (each for each in sorted(root.iterdir()) if each.is_dir() and each.name != LISTS)
    return any(any(folder.glob("v_*_g[0-9][0-9]_c[0-9][0-9].avi")) for folder in folders)


def _looks_like(path: Path) -> str:
    kinds = Counter(Path(file).suffix.lower() for _, _, files in islice(os.walk(path), 200) for file in files)
    if any(path.glob("v_*.avi")):
        return "its videos lie side by side, each must be in the folder of its class"
    if (path / "classInd.txt").is_file():
        return "it is the folder of the lists"
    if pictures := sum(kinds[kind] for kind in PICTURES):
        return f"it holds pictures ({pictures} and more), the original .avi files are needed"
    if others := sum(kinds[kind] for kind in VIDEO_SUFFIXES - {".avi"}):
        return f"it has video files of other formats ({others} and more): re-encoding changes scores"
    if not kinds:
        return "it is empty"
    seen = ", ".join(sorted(each.name for each in path.iterdir())[:SHOWN])
    return f"it holds {seen} and no folder of v_<Class>_gGG_cCC.avi"


def find_lists(path: Path, root: Path, splits: Path | str | None) -> Path | None:
    """The folder of the list files, or None for the built-in ones.

    Raises:
        ValueError: the named folder has no classInd.txt.
    """
    if splits is not None:
        given = Path(splits)
        for folder in (given, given / LISTS):
            if (folder / "classInd.txt").is_file():
                return folder
        raise ValueError(f"{given} is not the folder {LISTS}: it has no classInd.txt")
    near = (path / LISTS, root / LISTS, root.parent / LISTS)
    return next((folder for folder in near if (folder / "classInd.txt").is_file()), None)


def _read_lists(folder: Path | None) -> dict[str, bytes]:
    """Contents of the seven files with their lines as published, so that a copy with other line ends is the same."""
    if folder is None:
        return dict(list_files())
    missing = [name for name in LIST_SHA256 if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)}: unpack UCF101TrainTestSplits-RecognitionTask.zip again")
    contents = {}
    for name in LIST_SHA256:
        try:
            text = (folder / name).read_bytes().decode("ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{folder / name} cannot be read as a list: {error}") from error
        lines = [line.strip() for line in text.splitlines()]
        contents[name] = "".join(f"{line}\r\n" for line in lines if line).encode()
    return contents


def parse_lists(contents: Mapping[str, bytes]) -> tuple[list[str], dict[str, tuple[str, str, str]]]:
    """Class names by index, and of each video its half in the three splits.

    Raises:
        ValueError: a line that is none, labels that contradict classInd.txt, a video that is listed twice, in both
            halves or not in every split, or a group of a class in both halves of one.
    """
    names = _parse_classes(contents["classInd.txt"])
    index = {name: number for number, name in enumerate(names, 1)}
    halves: dict[str, list[str]] = defaultdict(list)
    for split in SPLITS:
        of: dict[str, str] = {}
        groups: dict[tuple[str, str], str] = {}
        for half in ("train", "test"):
            name = f"{half}list{split:02d}.txt"
            for number, line in enumerate(contents[name].decode().splitlines(), 1):
                video, _, label = line.partition(" ")
                about = _parse_name(video, f"{name}, line {number}")
                if about["class"] not in index or (label and label != str(index[about["class"]])):
                    raise ValueError(f"{name}, line {number} contradicts classInd.txt: {line!r}")
                if not label and half == "train":
                    raise ValueError(f"{name}, line {number} must end with the number of the class: {line!r}")
                if video in of:
                    both = of[video] != half
                    where = f"in both halves of split {split}" if both else f"twice in {name}"
                    raise ValueError(f"{video} is {where}: the lists are not the official ones")
                of[video] = half
                if groups.setdefault((about["class"], about["group"]), half) != half:
                    raise ValueError(
                        f"{name}, line {number}: group {about['group']} of {about['class']} is in both halves of split "
                        f"{split}, so clips of one recording would be trained on and tested with"
                    )
        if split > 1 and of.keys() != halves.keys():
            odd = sorted(of.keys() ^ halves.keys())
            raise ValueError(
                f"split {split} does not cover the videos of split 1: {_some(odd)} are in one of them only"
            )
        for video, half in of.items():
            halves[video].append(half)
    return names, {video: (one, two, three) for video, (one, two, three) in halves.items()}


def _parse_classes(content: bytes) -> list[str]:
    names = []
    for number, line in enumerate(content.decode().splitlines(), 1):
        label, _, name = line.partition(" ")
        if label != str(number) or not re.fullmatch(r"\w+", name) or name in names:
            raise ValueError(f"classInd.txt, line {number} must be '{number} Name', a new name: got {line!r}")
        names.append(name)
    if not names:
        raise ValueError("classInd.txt is empty")
    return names


def _parse_name(video: str, where: str = "the list") -> dict[str, str]:
    match = NAME.fullmatch(video)
    if match is None or match["class"].casefold() != match["stem"].casefold():
        raise ValueError(f"{where} names no video: <Class>/v_<Class>_gGG_cCC.avi was expected, got {video!r}")
    return match.groupdict()


def _list_video_files(root: Path) -> Iterator[tuple[str, int]]:
    """Every video file below the folder, with its size; other files (lists, notes of file managers) do not matter."""
    for path in read.media_below(root):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            yield path.relative_to(root).as_posix(), path.stat().st_size


def _faults(root: Path, listed: int, missing: list[str], extra: list[str], empty: list[str]) -> str:
    """One line that names what is wrong, and what to do about the commonest reasons."""
    faults = []
    if missing:
        gone = Counter(name.partition("/")[0] for name in missing)
        whole = [name for name, count in gone.items() if count == _official_counts().get(name)]
        folders = f", among them all of {len(whole)} classes ({_some(whole)})" if whole else ""
        faults.append(f"{len(missing)} of {listed} videos are missing ({_some(missing)}{folders})")
    if empty:
        faults.append(f"{len(empty)} are empty ({_some(empty)})")
    if extra:
        faults.append(f"{len(extra)} video files are in no list ({_some(extra)})")
    message = f"{root} is not what the lists say: {'; '.join(faults)}"
    spelled = {name.casefold(): name for name in missing}
    renamed = [(name, spelled[name.casefold()]) for name in extra if name.casefold() in spelled]
    if renamed:
        return f"{message}. {renamed[0][0]} must be called {renamed[0][1]}, as in the archive"
    other = {Path(name).with_suffix(""): Path(name).suffix for name in extra}
    if any(Path(name).with_suffix("") in other for name in missing):
        return f"{message}. Files were re-encoded, which changes scores: the original .avi files are needed"
    if missing:
        return f"{message}. Unpack the archive again, or allow a partial one; {UNPACK}"
    return f"{message}. {'Unpack the archive again' if empty else 'Move them elsewhere'}"


def _official_counts() -> dict[str, int]:
    return {each.name: sum(each.clips) for each in classes()}


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
