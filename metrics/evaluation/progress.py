"""How far a long scoring is, and a way to tell it."""

import sys
import time
from dataclasses import dataclass

EVERY = 10.0  # seconds between lines, where no terminal shows them


@dataclass(frozen=True)
class Progress:
    """How far a set is."""

    done: int
    total: int | None  # None where nobody knows how many will come
    kept: int  # of those done, taken from the cache
    seconds: float  # since the first

    @property
    def per_second(self) -> float:
        """Clips a second that were really embedded."""
        return (self.done - self.kept) / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds to go, None while nobody can say."""
        if self.total is None or self.per_second == 0:
            return None
        return (self.total - self.done) / self.per_second


class ProgressPrinter:
    """Tells on stderr how far a set is: a line that is written over on a terminal, else one now and then."""

    def __init__(self) -> None:
        self._told = time.monotonic()
        self._last: tuple[str, int] | None = None

    def __call__(self, side: str, progress: Progress) -> None:
        """Tell, if it is time to."""
        terminal, now, ended = sys.stderr.isatty(), time.monotonic(), progress.done == progress.total
        early = now - self._told < (0.2 if terminal else EVERY) and not (ended and progress.seconds > 1)
        if early or self._last == (side, progress.done):
            return
        self._told, self._last = now, (side, progress.done)
        left = "" if progress.left is None or ended else f", {_clock(progress.left)} left"
        kept = f", {progress.kept} from the cache" if progress.kept else ""
        text = f"{side}: {progress.done}/{progress.total} videos or clips, {progress.per_second:.2f}/s{kept}{left}"
        over = terminal and not ended
        print(f"\r{text:70}" if over else text, end="" if over else "\n", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
