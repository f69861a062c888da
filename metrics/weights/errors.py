"""How a weights file is refused: one line that says the file, the fault and what to do."""

from pathlib import Path


class WeightsError(ValueError):
    """A weights file that must not be used."""


def refused(path: Path | str, fault: str, advice: str = "") -> WeightsError:
    """`fault` says what is wrong, `advice` what to do about it."""
    line = f"{path} cannot be used as weights: {' '.join(fault.split())}"
    return WeightsError(f"{line}; {advice}" if advice else line)


TRUNCATED = "copy or download it again"
