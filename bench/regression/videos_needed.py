"""How many videos show a difference in quality: chosen from the paired variance of a pilot."""

import math
from collections.abc import Mapping, Sequence

from bench.results.statistics import samples_needed
from bench.results.verdicts import QUALITY_ALPHA, Finding

QUALITY = {"fvd": "share of the base's distance", "caption": "difference of a probability"}
MOST_VIDEOS = 4096  # of a side


def parse(words: Sequence[str]) -> dict[str, float]:
    """Measure -> the difference that is to be detected, from words such as "fvd=10%" and "caption=0.03".

    Raises:
        ValueError: a word is of another form, names another measure, or no difference between 0 and 100 %.
    """
    wanted = {}
    for word in words:
        name, _, text = word.partition("=")
        try:
            value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            value = math.nan
        if name not in QUALITY or not 0 < value <= 1:
            raise ValueError(
                f"a difference to detect is {' or '.join(QUALITY)}=SHARE, above 0 and at most 1; got {word!r}: "
                "write fvd=10% or caption=0.03"
            )
        wanted[name] = value
    return wanted


def videos_needed(pilot: Sequence[Finding], detect: Mapping[str, float], batch: int) -> int:
    """Videos of each side, in whole batches, that show these differences in nine of ten cases.

    A head that differs by as much as is to be detected fails as often as one that does not differ passes.
    """
    most = 0
    for finding in pilot:
        if finding.measure in detect and finding.error is not None:
            share = finding.base or 0.0 if finding.measure == "fvd" else 1.0
            margin = detect[finding.measure] * share
            if margin > 0:
                most = max(most, samples_needed(finding.n, finding.error, margin, alpha=QUALITY_ALPHA))
    return math.ceil(most / batch) * batch
