"""Captions for videos that have only a class: a model describes key frames, the answers are fused and filtered.

The paper asks BLIP-2 and MiniGPT-4 about key frames with the class as a help; its prompts are not published, so the
wording here is ours. The class is called a hint that may be wrong, since labels of web video often are.
"""

import random
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, Protocol, runtime_checkable

from PIL import Image

from vidrd.data.record import Drop, Record, digest
from vidrd.data.shots import key_frames

FRAME_PROMPT = (
    "Describe in one sentence what this frame of a video shows: the place, who or what is in it and what they look "
    "like, and what they seem to be doing."
)
HINT = " The video was filed under {label!r}, which may be wrong: use it only where the frame bears it out."
FUSE_PROMPT = (
    "These sentences describe frames of one video clip, in order of time:\n{sentences}\n{hint}"
    "Write one plain sentence of at most 40 words that says what happens in the clip: who or what, the action and how "
    "it goes on, and the place. Do not mention frames, pictures or the video itself."
)
FUSE_HINT = "The clip was filed under {label!r}, which may be wrong.\n"
TEMPLATES = (
    "A video of {label}.",
    "Someone is seen doing this: {label}.",
    "{label}, as a short video shows it.",
    "A short clip that shows {label}.",
    "Some footage of {label}.",
)


UNANSWERED = "captioner failed"  # the reason of a drop that `--retry` asks about again
LONGEST = 2000  # letters of a caption: what is longer is judged by nothing else
LONGEST_ANSWER = 20_000  # letters of an answer that are looked at


class NoAnswerError(ValueError):
    """A model gives no answer about some frames, as it may give one about others."""


@runtime_checkable
class Captioner(Protocol):
    """A model that answers prompts about frames."""

    name: str  # of the model and its revision, as the index stores it

    def ask(self, frames: Sequence[Image.Image], prompt: str) -> str:
        """Answer a prompt about some frames of a video in order, or, without frames, about the prompt alone.

        Raises:
            NoAnswerError: it has none for these frames.
        """
        ...


@dataclass(frozen=True)
class Template:
    """Sentences around the class, without any model: the offline captioner."""

    seed: int = 0
    name: str = "template"

    def caption(self, record: Record) -> str:
        """One of the templates, chosen by the record's key."""
        label = " and ".join(plain_label(label) for label in record.labels) or "something"
        sentence = random.Random(f"{self.seed} {record.key}").choice(TEMPLATES).format(label=label)
        return sentence[0].upper() + sentence[1:]


@dataclass(frozen=True)
class Asking:
    """Which clips a captioner describes, and from which frames."""

    frames: int = 3  # key frames
    choose: Literal["uniform", "shots", "distinct"] = "distinct"
    when: Literal["missing", "always"] = "missing"  # caption only records without captions, or all
    keep_label: bool = True  # a caption must mention the class, or a template is added
    parallel: int = 1  # questions to a server at the same time; changes no answer


def caption_stage(captioner: Captioner | Template, asking: Asking, record: Record) -> Record | Drop:
    """Give a record captions, unless it has some and only missing ones are wanted."""
    if record.captions and asking.when == "missing":
        return record
    if isinstance(captioner, Template):
        if not record.labels:
            return Drop(record.key, "no caption", "it has neither captions nor a class, and no model is asked")
        return replace(record, captions=(captioner.caption(record),), caption_by=captioner.name)
    pixels = record.seen()
    chosen = key_frames(pixels, asking.frames, asking.choose)
    if not chosen:
        return Drop(record.key, "shows nothing", "no frame is bright and structured enough to be described")
    images = [Image.fromarray(frame) for frame in pixels.rgb(chosen)]
    try:
        caption, answers = describe(captioner, images, record.labels, asking.parallel)
    except NoAnswerError as error:
        return Drop(record.key, UNANSWERED, str(error))
    author = captioner.name
    if not caption and record.labels:
        caption, author = Template().caption(record), Template().name
    elif asking.keep_label and record.labels and not mentions(caption, record.labels):
        caption = f"{Template().caption(record)} {caption}"
    return replace(record, captions=(caption,) if caption else (), caption_by=author).having(
        key_frames=chosen, frame_captions=answers, prompts=digest(FRAME_PROMPT, HINT, FUSE_PROMPT, FUSE_HINT)
    )


def describe(
    captioner: Captioner,
    images: Sequence[Image.Image],
    labels: Sequence[str] = (),
    parallel: int = 1,  # frames that are asked about at the same time
) -> tuple[str, list[str]]:
    """Ask about each key frame, then fuse the answers in order of time; the caption, and the answers."""
    label = ", ".join(plain_label(label) for label in labels)
    prompt = FRAME_PROMPT + (HINT.format(label=label) if label else "")
    with ThreadPoolExecutor(parallel) as threads:
        answers = [tidy(answer) for answer in threads.map(lambda image: captioner.ask([image], prompt), images)]
    distinct = [answer for answer in dict.fromkeys(answers) if answer]
    if len(distinct) < 2:
        return (distinct[0] if distinct else ""), answers
    sentences = "\n".join(f"{number}. {answer}" for number, answer in enumerate(distinct, 1))
    hint = FUSE_HINT.format(label=label) if label else ""
    fused = tidy(captioner.ask([], FUSE_PROMPT.format(sentences=sentences, hint=hint)))
    return (fused if not complaint(fused) else distinct[len(distinct) // 2]), answers


def plain_label(label: str) -> str:
    """A class name as words: "ApplyEyeMakeup" and "apply_eye_makeup" become "apply eye makeup"."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", label.replace("_", " "))
    return " ".join(spaced.split()).lower()


def mentions(caption: str, labels: Sequence[str]) -> bool:
    """Whether a caption has a content word of one of the classes, whatever its ending."""
    stems = {_stem(word) for word in re.findall(r"[a-z]+", caption.lower())}
    return any(_stem(word) in stems for label in labels for word in plain_label(label).split() if len(word) > 2)


def _stem(word: str) -> str:
    for ending in ("ing", "ers", "er", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


def tidy(answer: str) -> str:
    """One line, without the thoughts and phrases that chat models put around an answer."""
    said = answer[-LONGEST_ANSWER:].rpartition("</think>")[2].partition("<think>")[0]
    line = " ".join(said.split()).strip("\"' ")
    line = re.sub(r"^(sure|certainly|of course|here is|here's)\b[^:.!]*[:.!]\s*", "", line, flags=re.IGNORECASE)
    line = re.sub(r"^(the|this) (image|frame|picture|photo|video|clip) (shows|depicts|features|captures)\s+", "", line,
                  flags=re.IGNORECASE)  # fmt: skip
    line = line.strip("\"' ")
    return line[:1].upper() + line[1:]


_REFUSAL = re.compile(r"\b(as an ai|language model|i (cannot|can't|am unable|'m sorry)|sorry, )", re.IGNORECASE)
_NOISE = re.compile(r"(https?://|www\.|[\w.]+@[\w.]+|#\w+|<[^>]+>)")


def complaint(caption: str, *, least: int = 4, most: int = 60, blocked: Sequence[str] = ()) -> str:
    """Why a caption is unacceptable; empty if it is not.

    Rules: at most LONGEST letters, which comes first; least to most words; no refusal; no address, tag or markup;
    mostly Latin letters; not the same words again and again (share of distinct word pairs); no blocked word.
    """
    if len(caption) > LONGEST:
        return "too long"
    words = re.findall(r"\w+", caption.lower())
    letters = [c for c in caption if c.isalpha()]
    pairs = list(pairwise(words))
    faults = {
        "too short": len(words) < least,
        "too long": len(words) > most,
        "refusal": bool(_REFUSAL.search(caption)),
        "address or markup": bool(_NOISE.search(caption)),
        "not in Latin letters": sum(c < "ɐ" for c in letters) < 0.8 * len(letters),
        "repeats itself": len(set(pairs)) < 0.6 * len(pairs),
        "blocked word": any(re.search(rf"\b{re.escape(word.lower())}\b", caption.lower()) for word in blocked),
    }
    return next((name for name, is_so in faults.items() if is_so), "")


def filter_captions(record: Record, *, blocked: Sequence[str] = ()) -> Record | Drop:
    """Keep each acceptable caption once; drop the record if there is none."""
    judged: Mapping[str, str] = {caption: complaint(caption, blocked=blocked) for caption in record.captions}
    kept = tuple(caption for caption, fault in judged.items() if not fault)
    if kept:
        return replace(record, captions=kept)
    if not judged:
        return Drop(record.key, "no caption", "none came with it and none was made")
    first = next(iter(judged))
    return Drop(record.key, f"caption {judged[first]}", first[:200])
