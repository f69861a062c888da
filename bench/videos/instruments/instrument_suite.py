"""The suite `instruments`: which damages does every metric see, at which strength, from how many videos?"""

from dataclasses import replace

from bench.harness.suite_spec import Measure, Suite, Values
from bench.results.records import Value
from bench.videos.instruments.damages import DAMAGES
from bench.videos.instruments.gauges import GAUGES
from bench.videos.instruments.sources import POCKET, content_of, long_enough

SIZES = (16, 64, 256)  # videos on either side
STRENGTHS = (0.125, 0.25, 0.5, 1.0)
CLEAN = "clean"  # the reference cell's damage: none


def reference(values: Values) -> dict[str, Value] | None:
    """The cell of clean video."""
    return None if values["damage"] == CLEAN else {**values, "damage": CLEAN, "strength": 0.0}


def refine(suite: Suite) -> Suite:
    """Real clips stand next to the pocket world."""
    real = suite.axes.get("real", (suite.fixed.get("real", POCKET),))
    if POCKET in real:
        return suite
    fixed = {name: value for name, value in suite.fixed.items() if name != "real"}
    return replace(suite, axes={**suite.axes, "real": (POCKET, *real)}, fixed=fixed)


def fill(values: dict[str, Value]) -> dict[str, Value]:
    """The content of real clips is in the cell's id."""
    return values if values["real"] == POCKET else {**values, "inputs": content_of(str(values["real"]))}


def skip(values: Values) -> str | None:
    """Why the clips cannot be damaged so."""
    if float(values["strength"]) > 1:
        return f"a damage of strength 1 is whole: got strength {values['strength']}, take 0 to 1"
    if values["real"] == POCKET:
        return None
    if values["damage"] == "wrong caption":
        return "captions of real clips are not known here: the pocket world's are"
    try:
        long_enough(str(values["real"]), 2 * int(values["frames"]))
    except (OSError, ValueError) as error:
        return str(error)
    return None


INSTRUMENT_SUITE = Suite(
    question="Which damages does every metric see, at which strength, from how many videos?",
    workload="instrument",
    axes={"damage": tuple(DAMAGES), "strength": STRENGTHS},
    fixed={"videos": SIZES[-1], "frames": 16, "seed": 0, "real": POCKET},  # or a folder of clips, or a list of files
    measures={
        name: Measure(
            name[:12],
            "videos",
            "lower",
            "quality",
            f"The fewest of {', '.join(map(str, SIZES))} videos a side from which damaged video is told from clean "
            f"video at 95 % by {gauge.says}.",
        )
        for name, gauge in GAUGES.items()
    },
    group="damage",
    headlines=("fvd", "consistency", "jitter"),
    apart=("damage",),
    files=("weights/pocket-judges",),
    allowed={"damage": tuple(DAMAGES)},
    reference=reference,
    refine=refine,
    fill=fill,
    skip=skip,
    least={"strength": 0.0, "videos": 16, "frames": 16},
)
