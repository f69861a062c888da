"""Captions for videos that have only a class: a model describes key frames, the answers are fused and filtered.

The paper asks BLIP-2 and MiniGPT-4 about key frames with the class as a help; its prompts are not published, so the
wording here is ours. The class is called a hint that may be wrong, since labels of web video often are.
"""

import html
import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from PIL import Image

from vidrd.data.record import Drop, Record, digest
from vidrd.data.shots import key_frames


@dataclass(frozen=True)
class Prompts:
    """What a captioner is asked; the hints take part where a clip has a class."""

    frame: str = (
        "Describe in one sentence what this frame of a video shows: the place, who or what is in it and what they look "
        "like, and what they seem to be doing."
    )
    hint: str = " The video was filed under '{label}', which may be wrong: use it only where the frame bears it out."
    fuse: str = (
        "These sentences describe frames of one video clip, in order of time:\n{sentences}\n{hint}"
        "Write one plain sentence of at most 40 words that says what happens in the clip: who or what, the action and "
        "how it goes on, and the place. Do not mention frames, pictures or the video itself."
    )
    fuse_hint: str = "The clip was filed under '{label}', which may be wrong.\n"

    def __post_init__(self) -> None:
        if not self.frame.strip():
            raise ValueError("the prompt about a frame must say something: got frame = ''")
        if "{sentences}" not in self.fuse:
            raise ValueError(f"the prompt that fuses answers must hold {{sentences}}: got fuse = {self.fuse[:80]!r}")

    @classmethod
    def read(cls, path: Path) -> "Prompts":
        """Prompts of a TOML file, which names some or all of them; the others are the usual ones.

        Raises:
            ValueError: the file cannot be read so, or names something else.
        """
        try:
            held = tomllib.loads(path.read_text(encoding="utf-8-sig"))
            names = [name.name for name in fields(cls)]
            if other := [name for name, text in held.items() if name not in names or not isinstance(text, str)]:
                raise ValueError(f"prompts are texts named {', '.join(names)}: got {', '.join(other)}")
            return cls(**held)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error

    def of_frame(self, label: str) -> str:
        """What is asked about a frame of a clip of a class, "" if it has none."""
        return self.frame + (self.hint.replace("{label}", label) if label else "")

    def of_clip(self, answers: Sequence[str], label: str) -> str:
        """What is asked about the answers for a clip's frames."""
        sentences = "\n".join(f"{number}. {answer}" for number, answer in enumerate(answers, 1))
        hint = self.fuse_hint.replace("{label}", label) if label else ""
        before, _, after = self.fuse.replace("{hint}", hint).partition("{sentences}")
        return before + sentences + after


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


@runtime_checkable
class BatchCaptioner(Captioner, Protocol):
    """A model that answers several questions at once."""

    def ask_together(self, questions: Sequence[tuple[Sequence[Image.Image], str]]) -> list[str]:
        """The answers, as `ask` gives them; all questions show one frame each, or all none."""
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
class CaptionSettings:
    """Which clips a captioner describes, and from which frames."""

    frames: int = 3  # key frames
    choose: Literal["uniform", "shots", "distinct"] = "distinct"
    when: Literal["missing", "always"] = "missing"  # caption only records without captions, or all
    keep_label: bool = True  # a caption must mention the class, or a template is added
    parallel: int = 1  # questions to a server at the same time; changes no answer
    batch: int = 1  # clips about whose frames a model is asked together; 1: frame by frame
    prompts: Prompts = field(default_factory=Prompts)


def caption_stage(captioner: Captioner | Template, asking: CaptionSettings, record: Record) -> Record | Drop:
    """Give a record captions, unless it has some and only missing ones are wanted."""
    return caption_together(captioner, asking, [record])[0]


def caption_together(
    captioner: Captioner | Template, asking: CaptionSettings, records: Sequence[Record]
) -> list[Record | Drop]:
    """The same for several records, whose questions are asked together."""
    outcomes: list[Record | Drop] = list(records)
    places: list[int] = []
    chosen: list[list[int]] = []
    clips: list[tuple[list[Image.Image], Sequence[str]]] = []
    for place, record in enumerate(records):
        if record.captions and asking.when == "missing":
            continue
        if isinstance(captioner, Template):
            outcomes[place] = _by_template(captioner, record)
            continue
        frames = key_frames(record.seen(), asking.frames, asking.choose)
        if not frames:
            why = "no frame is bright and structured enough to be described"
            outcomes[place] = Drop(record.key, "shows nothing", why)
            continue
        places.append(place)
        chosen.append(frames)
        clips.append(([Image.fromarray(frame) for frame in record.seen().rgb(frames)], record.labels))
    if clips and not isinstance(captioner, Template):
        for place, frames, described in zip(places, chosen, describe_all(captioner, clips, asking), strict=True):
            record = records[place]
            outcomes[place] = (
                Drop(record.key, UNANSWERED, str(described))
                if isinstance(described, NoAnswerError)
                else _captioned(record, captioner.name, asking, *described).having(key_frames=frames)
            )
    return outcomes


def _by_template(template: Template, record: Record) -> Record | Drop:
    if not record.labels:
        return Drop(record.key, "no caption", "it has neither captions nor a class, and no model is asked")
    return replace(record, captions=(template.caption(record),), caption_by=template.name)


def _captioned(record: Record, author: str, asking: CaptionSettings, caption: str, answers: Sequence[str]) -> Record:
    if not caption and record.labels:
        caption, author = Template().caption(record), Template().name
    elif asking.keep_label and record.labels and not mentions(caption, record.labels):
        caption = f"{Template().caption(record)} {caption}"
    return replace(record, captions=(caption,) if caption else (), caption_by=author).having(
        frame_captions=list(answers), prompts=digest(asdict(asking.prompts))
    )


def describe_all(
    captioner: Captioner, clips: Sequence[tuple[Sequence[Image.Image], Sequence[str]]], asking: CaptionSettings
) -> list[tuple[str, list[str]] | NoAnswerError]:
    """Of each clip's key frames and classes: ask about each frame, then fuse the answers in order of time.

    Returns:
        Each clip's caption and the answers for its frames, or why the model gave none.
    """
    classes = [", ".join(plain_label(label) for label in labels) for _, labels in clips]
    questions = [
        ([image], asking.prompts.of_frame(label))
        for (images, _), label in zip(clips, classes, strict=True)
        for image in images
    ]
    coming = iter(_ask_all(captioner, questions, asking))
    by_clip = [[next(coming) for _ in images] for images, _ in clips]
    distinct = [[answer for answer in dict.fromkeys(answers) if answer] for answers in by_clip]
    failed = [next((answer for answer in answers if isinstance(answer, NoAnswerError)), None) for answers in by_clip]
    open_ones = [place for place, some in enumerate(distinct) if len(some) > 1 and failed[place] is None]
    fusing: list[tuple[Sequence[Image.Image], str]] = [
        ((), asking.prompts.of_clip([str(answer) for answer in distinct[place]], classes[place])) for place in open_ones
    ]
    fused = dict(zip(open_ones, _ask_all(captioner, fusing, asking), strict=True))
    described: list[tuple[str, list[str]] | NoAnswerError] = []
    for place, answers in enumerate(by_clip):
        fault, caption = failed[place], fused.get(place, "".join(map(str, distinct[place][:1])))
        if fault is None and isinstance(caption, NoAnswerError):
            fault = caption
        if place in fused and complaint(str(caption)):
            caption = str(distinct[place][len(distinct[place]) // 2])
        described.append(fault or (str(caption), [str(answer) for answer in answers]))
    return described


def _ask_all(
    captioner: Captioner, questions: Sequence[tuple[Sequence[Image.Image], str]], asking: CaptionSettings
) -> list[str | NoAnswerError]:
    """The answers, tidy, or why there is none; all in one batch, or several at the same time."""
    if asking.batch > 1 and isinstance(captioner, BatchCaptioner) and questions:
        return [tidy(answer) for answer in captioner.ask_together(questions)]

    def ask(question: tuple[Sequence[Image.Image], str]) -> str | NoAnswerError:
        try:
            return tidy(captioner.ask(*question))
        except NoAnswerError as error:
            return error

    with ThreadPoolExecutor(asking.parallel) as threads:
        return list(threads.map(ask, questions))


def plain_label(label: str) -> str:
    """A class name as words: "ApplyEyeMakeup" and "apply_eye_makeup" become "apply eye makeup"."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", label.replace("_", " "))
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


_THOUGHT = r"[<\[◁]{}(?:think(?:ing)?|thoughts?|reasoning)[>\]▷]"
_BEGIN, _END = (re.compile(_THOUGHT.format(slash), re.IGNORECASE) for slash in ("", "/"))
_PAGE = re.compile(r"<(?:!doctype|html|head|body|script)\b", re.IGNORECASE)
_MARKUP = re.compile(r"</?[a-z][\w-]*(?:\s[^<>]*)?/?>|<\|[^<>|]*\|>|```\w*|[*_`]+", re.IGNORECASE)
_NOTHING = {"", "null", "none", "nil", "undefined", "nan", "na", "n a"}  # the words of no answer


def tidy(answer: str) -> str:
    """One line, without the thoughts, markup and phrases that chat models put around an answer; "" of null.

    A web page, which a server may send in place of an answer, stays as it is: `complaint` knows it by its markup.
    """
    *parts, last = _END.split(answer[-LONGEST_ANSWER:])
    whole = len(answer) <= LONGEST_ANSWER  # else what comes before a thought may be part of another
    before = [part for part in parts if whole and _BEGIN.search(part)]
    said = " ".join(_BEGIN.split(part)[0] for part in [*before, last])
    if " ".join(re.findall(r"\w+", said.lower())) in _NOTHING:
        return ""
    if not _PAGE.search(said):
        said = re.sub(r" (?=[.,;:!?])", "", " ".join(html.unescape(_MARKUP.sub(" ", said)).split()))
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
