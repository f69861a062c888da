"""The words of the answer, as data: what a measure says of two rows, what a value of an axis is called.

A measure, axis or method that is not here has words made of its title or name.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from reports.format import numeric


class Phrase(NamedTuple):
    """How a measure is spoken of. Clauses begin with the verb, in the third person singular.

    Args:
        noun: what it is called in the middle of a sentence.
        more: what a row of the higher value does; "" for what is said as a ratio.
        less: what a row of the lower value does.
        share: for a measure in [0, 1] said in per cent, what a row does at a share that stands for {}; else "".
        ratio: for a measure said as a ratio, with {ratio} and {other}.
        samples: name of the repeats behind it, where it is not the measure's own.
    """

    noun: str
    more: str = ""
    less: str = ""
    share: str = ""
    ratio: str = ""
    samples: str = ""


def _time(noun: str, what: str, samples: str = "") -> Phrase:
    return Phrase(noun, ratio=f"takes {{ratio}} times as long {what} as {{other}}", samples=samples)


def _memory(noun: str, what: str) -> Phrase:
    return Phrase(noun, ratio=f"takes {{ratio}} times the {what} of {{other}}")


PHRASES: dict[str, Phrase] = {
    "duplicates": Phrase(
        "held frames", "holds a frame at more of its seams", "holds a frame at fewer of its seams",
        share="holds a frame at {} of its seams",
    ),
    "mirror": Phrase(
        "mirror", "plays more of each clip backwards in the next", "plays less of each clip backwards in the next"
    ),
    "repeat": Phrase("repeat", "makes every second clip more alike", "makes every second clip less alike"),
    "seam_off": Phrase("|seam D|", "shows its seams more", "shows its seams less"),
    "seam_d": Phrase("seam D", "cuts harder at its seams", "moves less at its seams"),
    "fvd": Phrase("FVD", "is farther from real video", "is nearer to real video"),
    "fvd_across": Phrase("FVD across", "is farther from real video at its seams", "is nearer to it at its seams"),
    "drift": Phrase("drift", "gets worse faster along the video", "gets worse more slowly along the video"),
    "action": Phrase(
        "action", "shows the caption's action more often", "shows the caption's action less often",
        share="shows the caption's action in {} of windows",
    ),
    "fvd_loss": Phrase("FVD loss", "loses more FVD", "loses less FVD"),
    "caption_loss": Phrase("caption loss", "loses more of the caption", "loses less of the caption"),
    "seconds_per_frame": _time("time per frame", "per frame", "total_seconds"),
    "step_seconds": _time("time of a step", "for a step"),
    "call_seconds": _time("time of a call", "for a call"),
    "batch_seconds": _time("time of a batch", "for a batch"),
    "speedup": Phrase("speed", ratio="is {ratio} times as fast as {other}"),
    "allocated_peak": _memory("GPU memory", "GPU memory"),
    "process_peak": _memory("memory", "memory"),
    "activations": _memory("memory of tensors", "memory for tensors"),
}  # fmt: skip

# What the answer speaks of and the terminal shows where a plan names no headlines, the first first.
HEADLINES = ("fvd", "duplicates", "mirror", "seconds_per_frame", "memory", "seam_off", "repeat", "drift", "action")
MEMORY = ("allocated_peak", "process_peak", "activations")  # "memory" is the first of these that has numbers

NAMES = {"vidrd": "VidRD", "independent": "independent clips", "direct": "direct sampling"}
MANY = ("independent clips",)  # names in the plural

# axis -> one value as the subject of a sentence, rows of one value, rows of every value
AXES: dict[str, tuple[str, str, str]] = {
    "method": ("{}", "for {}", "for every method"),
    "frames": ("a video of {} frames", "at {} frames", "at every length"),
    "overlap": ("overlap {}", "with overlap {}", "with every overlap"),
    "precision": ("{}", "in {}", "in every precision"),
}
UNITS = {"1/clip": "a clip", "1/frame": "a frame"}  # behind a number in a sentence
PLURALS = {"method": "methods", "frames": "lengths", "overlap": "overlaps", "precision": "precisions", "rung": "rungs",
           "backend": "backends", "approximation": "approximations", "kernel": "kernels"}  # fmt: skip


def phrase_of(measure: str, said: Mapping[str, Any]) -> Phrase:
    """The phrase of a measure, by its title where it has none of its own. `said` is what the plan says of it."""
    if measure in PHRASES:
        return PHRASES[measure]
    title = str(said["title"])
    if said["table"] == "cost" and said["unit"] not in ("", "%"):
        return Phrase(title, ratio=f"has {{ratio}} times the {title} of {{other}}")
    return Phrase(title, f"has a higher {title}", f"has a lower {title}")


def name_of(axis: str, value: object) -> str:
    """A value of an axis as the subject of a sentence."""
    text = NAMES.get(str(value), str(value)) if axis == "method" else str(value)
    plain = axis not in AXES and not numeric([value]) and not isinstance(value, bool)
    return text if plain else AXES.get(axis, (f"{axis} = {{}}",))[0].replace("{}", text)


def at(axis: str, value: object) -> str:
    """Where something was seen."""
    form = AXES[axis][1] if axis in AXES else f"at {axis} = {{}}"
    return form.replace("{}", NAMES.get(str(value), str(value)))


def at_every(axis: str) -> str:
    """The same of all values of an axis."""
    return AXES[axis][2] if axis in AXES else f"at every {axis}"


def plural(axis: str) -> str:
    """The values of an axis together."""
    return PLURALS.get(axis, f"values of {axis}")


def clause(subject: str, words: str) -> str:
    """Subject and what it does, which begins with the verb: "Independent clips hold a frame at their seams".

    A name of one word is spelled as it is on the command line.
    """
    if subject in MANY:
        verb, _, rest = words.partition(" ")
        verb = {"is": "are", "has": "have"}.get(verb, verb.removesuffix("s"))
        words = f"{verb} {rest}".replace(" its ", " their ")
    return f"{subject[:1].upper() if ' ' in subject else subject[:1]}{subject[1:]} {words}"


def never(subject: str) -> str:
    """That a row does not do what another does."""
    return f"{subject} never {'do' if subject in MANY else 'does'}"
