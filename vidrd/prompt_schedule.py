"""Prompts that change along a video: "0: a red star moving left | 40: a blue star growing"."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLEND = 4  # frames around a change in which the texts cross-fade, unless asked otherwise
_ENTRY = re.compile(r"\s*(\d+)\s*:(.*)", re.DOTALL)


@dataclass(frozen=True)
class PromptSchedule:
    """The texts of one video, each with the frame from which it holds; a plain prompt is the only text from frame 0 on.

    Raises:
        ValueError: it does not begin at frame 0, frames do not rise, or a text is missing.
    """

    texts: tuple[str, ...]
    starts: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if self.starts[0] != 0:
            raise ValueError(f"a schedule of prompts begins at frame 0: got {self.starts[0]}, write '0: text' first")
        if any(later <= start for start, later in zip(self.starts, self.starts[1:], strict=False)):
            raise ValueError(
                f"the frames of a schedule of prompts rise: got {', '.join(map(str, self.starts))}, sort them"
            )
        if len(self.starts) > 1 and not all(self.texts):
            empty = self.starts[self.texts.index("")]
            raise ValueError(f"each entry of a schedule of prompts is 'FRAME: text': got no text from frame {empty} on")

    def shares(self, frames: Int[Tensor, " T"], blend: int = BLEND) -> Float[Tensor, "T S"]:
        """The share of every text in each frame; they add up to 1. Around a change they cross over in `blend` frames.

        Frames before the video's start have its first text, and those beyond its end its last.
        """
        edges = torch.tensor([*self.starts[1:]], dtype=torch.float32)
        since = frames[:, None] - edges
        begun = ((since + 0.5) / blend + 0.5).clamp(0, 1) if blend else (since >= 0).float()
        whole = torch.ones(len(frames), 1)
        return torch.cat([whole, begun], dim=1) - torch.cat([begun, 0 * whole], dim=1)


def read_prompt(prompt: str) -> PromptSchedule:
    """Read a prompt: a schedule has entries "FRAME: text" between "|", the first for frame 0; all else is plain text.

    Raises:
        ValueError: some entries have a frame and others none, or as `PromptSchedule`.
    """
    parts = prompt.split("|")
    entries = [_ENTRY.fullmatch(part) for part in parts]
    first = entries[0]
    if not any(entries[1:]) and (first is None or int(first[1]) != 0):
        return PromptSchedule((prompt,))
    for part, entry in zip(parts, entries, strict=True):
        if entry is None:
            raise ValueError(
                f"each entry of a schedule of prompts is 'FRAME: text', the first '0: text': got {part.strip()!r}"
            )
    read = [(int(entry[1]), entry[2].strip()) for entry in entries if entry is not None]
    return PromptSchedule(tuple(text for _, text in read), tuple(frame for frame, _ in read))


def read_prompts(prompts: Sequence[str], frames: int | None = None) -> list[PromptSchedule]:
    """Read the prompts of several videos, which have so many frames, if that is known.

    Raises:
        ValueError: as `read_prompt`, or a text that begins after the video's end.
    """
    schedules = [read_prompt(prompt) for prompt in prompts]
    last = max((schedule.starts[-1] for schedule in schedules), default=0)
    if frames is not None and last >= max(frames, 1):  # of no frame at all the request says more
        raise ValueError(f"a prompt begins within the video: got frame {last} of {frames} frames, ask for more frames")
    return schedules


def changes(schedules: Sequence[PromptSchedule]) -> bool:
    """Whether a video has more than one text."""
    return any(len(schedule.texts) > 1 for schedule in schedules)
