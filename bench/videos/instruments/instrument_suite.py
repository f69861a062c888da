"""The suite `instruments`: which damages does every metric see, at which strength, from how many videos?"""

from bench.harness.suite_spec import Measure, Suite, Values
from bench.results.records import Value
from bench.videos.instruments.damages import DAMAGES
from bench.videos.instruments.gauges import GAUGES

SIZES = (16, 64, 256)  # videos on either side
STRENGTHS = (0.125, 0.25, 0.5, 1.0)
CLEAN = "clean"  # the reference cell's damage: none


def reference(values: Values) -> dict[str, Value] | None:
    """The cell of clean video."""
    return None if values["damage"] == CLEAN else {**values, "damage": CLEAN, "strength": 0.0}


INSTRUMENT_SUITE = Suite(
    question="Which damages does every metric see, at which strength, from how many videos? (pocket world)",
    workload="instrument",
    axes={"damage": tuple(DAMAGES), "strength": STRENGTHS},
    fixed={"videos": SIZES[-1], "frames": 16, "seed": 0},
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
    least={"strength": 0.0, "videos": 16, "frames": 16},
)
