"""The progress of a long evaluation, and its display."""

import sys
import time
from dataclasses import dataclass

EVERY = 10.0  # seconds between lines, where no terminal shows them


@dataclass(frozen=True)
class Progress:
    """The progress of one set."""

    done: int
    total: int | None  # None where the number is not known beforehand
    kept: int  # those of them that were taken from the cache
    seconds: float  # since the first

    @property
    def per_second(self) -> float:
        """Clips per second, without those from the cache."""
        return (self.done - self.kept) / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Estimated seconds left; None as long as there is no estimate."""
        if self.total is None or self.per_second == 0:
            return None
        return (self.total - self.done) / self.per_second


class ProgressPrinter:
    """Prints progress to stderr: a line that is rewritten on a terminal, otherwise a new line every 10 seconds."""

    def __init__(self) -> None:
        self._printed = time.monotonic()
        self._last: tuple[str, int] | None = None

    def __call__(self, side: str, progress: Progress) -> None:
        """Print the progress of a side, unless the last line is too recent or was the same."""
        terminal, now, ended = sys.stderr.isatty(), time.monotonic(), progress.done == progress.total
        early = now - self._printed < (0.2 if terminal else EVERY) and not (ended and progress.seconds > 1)
        if early or self._last == (side, progress.done):
            return
        self._printed, self._last = now, (side, progress.done)
        left = "" if progress.left is None or ended else f", {_clock(progress.left)} left"
        kept = f", {progress.kept} from the cache" if progress.kept else ""
        text = f"{side}: {progress.done}/{progress.total} videos or clips, {progress.per_second:.2f}/s{kept}{left}"
        over = terminal and not ended
        print(f"\r{text:70}" if over else text, end="" if over else "\n", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
