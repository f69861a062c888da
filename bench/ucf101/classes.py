"""What is public of UCF-101 without its videos: classes, groups, and from them every file's name and the three splits.

Clips of one class and group (one recording) are numbered from 1 without gaps, and each split takes seven groups for its
test half, so a table of 101 x 25 counts holds the seven official list files byte for byte.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

Half = Literal["train", "test", "all"]

CLASSES: Final = 101
GROUPS: Final = 25
SPLITS: Final = (1, 2, 3)
TEST_GROUPS: Final = {1: range(1, 8), 2: range(8, 15), 3: range(15, 22)}  # the others train

# Of the files in UCF101TrainTestSplits-RecognitionTask.zip.
LIST_SHA256: Final = {
    "classInd.txt": "d7abbb76074d04e80c62ad8a61529bb8eec32ef978569601b2890edec3af0359",
    "testlist01.txt": "81be4765084d72739dca4d11658f7ec369c441ad9e227f11d9468fe2a1c14890",
    "testlist02.txt": "c9eec18f3f312153cda441f93e30bc9cffef1941367ebc06996e40c9cd056c91",
    "testlist03.txt": "f9cc029b0598c63f5cc07d070ae1fa4666d1d3901cc79a93490ea0742ca097db",
    "trainlist01.txt": "f7a4d7abc05147b921c17fc227d731197c3583f29945d1f1d46bce830d1b9f12",
    "trainlist02.txt": "3ea7145317098bdb4a999f69fb3b53ca3d3831d692602fc5dc8cd5c5e3eb8ca9",
    "trainlist03.txt": "c75af0148b3b0e70d5d881ad71b0a5fbb685bf2d3278908278658435c3f1bf0f",
}


@dataclass(frozen=True)
class Class:
    """One of the 101 actions."""

    index: int  # 0 to 100; the lists count from 1
    name: str  # of its folder
    stem: str  # the class in its files' names: only HandstandPushups is spelled differently there
    clips: tuple[int, ...]  # of groups 1 to 25

    @property
    def words(self) -> str:
        """Its name as words: "apply eye makeup"."""
        return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in self.name).strip()


@cache
def classes() -> tuple[Class, ...]:
    """The 101 classes in the order of classInd.txt."""
    with Path(__file__).with_name("classes.csv").open(encoding="utf-8", newline="") as file:
        rows = enumerate(csv.DictReader(file))
        return tuple(Class(i, row["class"], row["stem"], tuple(map(int, row["clips_by_group"]))) for i, row in rows)


def class_counts(split: int = 1, half: Half = "train") -> dict[str, int]:
    """Official number of videos of each class in one half of a split, or in both ("all").

    Raises:
        ValueError: no such split or half.
    """
    check_split(split, half)
    return {
        each.name: sum(n for group, n in enumerate(each.clips, 1) if half in ("all", half_of(split, group)))
        for each in classes()
    }


def check_split(split: int, half: str) -> None:
    """Refuse what is no half of a split.

    Raises:
        ValueError: no such split or half.
    """
    if split not in SPLITS or half not in ("train", "test", "all"):
        raise ValueError(f"UCF-101 has splits 1, 2, 3 with halves train, test, all: there is no {half!r} of {split!r}")


def half_of(split: int, group: int) -> Literal["train", "test"]:
    """Which half of a split a group's clips belong to."""
    return "test" if group in TEST_GROUPS[split] else "train"


def file_name(each: Class, group: int, clip: int) -> str:
    """Path of one video below the archive's folder."""
    return f"{each.name}/v_{each.stem}_g{group:02d}_c{clip:02d}.avi"


def list_files(table: tuple[Class, ...] | None = None) -> Mapping[str, bytes]:
    """The seven files of ucfTrainTestlist/, as published (lines end in CR LF); `table`: of other classes."""
    table = classes() if table is None else table
    lines: dict[str, list[str]] = {"classInd.txt": [f"{each.index + 1} {each.name}" for each in table]}
    for split in SPLITS:
        for half in ("train", "test"):
            lines[f"{half}list{split:02d}.txt"] = [
                file_name(each, group, clip) + (f" {each.index + 1}" if half == "train" else "")
                for each in table
                for group, count in enumerate(each.clips, 1)
                if half_of(split, group) == half
                for clip in range(1, count + 1)
            ]
    return {name: "".join(f"{line}\r\n" for line in found).encode() for name, found in sorted(lines.items())}
