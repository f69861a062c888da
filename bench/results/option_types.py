"""The types of options, for `bench` and `reports`; `vidrd.command_line` has them and checks them."""

from vidrd.command_line import (
    Count,
    CountOrNone,
    ExistingFile,
    ExistingFolder,
    Margin,
    Minutes,
    Place,
    PositiveMargin,
    Seconds,
    Seed,
    TargetFile,
    TargetFolder,
    Weight,
    check_place,
)

__all__ = [
    "Count",
    "CountOrNone",
    "ExistingFile",
    "ExistingFolder",
    "Margin",
    "Minutes",
    "Place",
    "PositiveMargin",
    "Seconds",
    "Seed",
    "TargetFile",
    "TargetFolder",
    "Weight",
    "check_place",
]
