"""The words of the answer, as data: how a measure compares two rows, what a value of an axis is called.

For a measure, axis or method that is missing here, the words are made from its title or name.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from reports.format import numeric


class Phrase(NamedTuple):
    """How sentences express a measure. Clauses begin with the verb, in the third person singular.

    Args:
        noun: its name in the middle of a sentence.
        more: what a row with the higher value does; "" for a measure that is compared as a ratio.
        less: what a row with the lower value does.
        share: for a measure in [0, 1] that is given in percent, what a row does, with {} for the share; else "".
        ratio: for a measure that is compared as a ratio, with {ratio} and {other}.
        samples: name of its repeats, if that is not the measure's own name.
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
    "fvd_end": Phrase("FVD end", "ends farther from real video", "ends nearer to real video"),
    "held_frames": Phrase("held frames", "holds more frames", "holds fewer frames"),
    "contrast_drift": Phrase("contrast", "changes its contrast more", "changes its contrast less"),
    "cycle": Phrase("cycle", "repeats itself more", "repeats itself less"),
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

# The measures of the answer and of the terminal's table if a plan names no headlines, in this order.
HEADLINES = ("fvd", "duplicates", "mirror", "seconds_per_frame", "memory", "seam_off", "repeat", "drift", "action")
MEMORY = ("allocated_peak", "process_peak", "activations")  # "memory" means the first of these that has numbers

NAMES = {"vidrd": "VidRD", "independent": "independent clips", "direct": "direct sampling"}
MANY = ("independent clips",)  # names in the plural

# axis -> one value as the subject of a sentence, at one value, at every value
AXES: dict[str, tuple[str, str, str]] = {
    "method": ("{}", "for {}", "for every method"),
    "frames": ("a video of {} frames", "at {} frames", "at every length"),
    "overlap": ("overlap {}", "with overlap {}", "with every overlap"),
    "precision": ("{}", "in {}", "in every precision"),
}
UNITS = {"1/clip": "per clip", "1/frame": "per frame"}  # after a number in a sentence
PLURALS = {"method": "methods", "frames": "lengths", "overlap": "overlaps", "precision": "precisions", "rung": "rungs",
           "backend": "backends", "approximation": "approximations", "kernel": "kernels"}  # fmt: skip


def phrase_of(measure: str, planned: Mapping[str, Any]) -> Phrase:
    """The phrase of a measure, made from its title if it has none of its own. `planned` is its entry in the plan."""
    if measure in PHRASES:
        return PHRASES[measure]
    title = str(planned["title"])
    if planned["table"] == "cost" and planned["unit"] not in ("", "%"):
        return Phrase(title, ratio=f"has {{ratio}} times the {title} of {{other}}")
    return Phrase(title, f"has a higher {title}", f"has a lower {title}")


def name_of(axis: str, value: object) -> str:
    """A value of an axis as the subject of a sentence: "VidRD", "a video of 32 frames"."""
    text = NAMES.get(str(value), str(value)) if axis == "method" else str(value)
    plain = axis not in AXES and not numeric([value]) and not isinstance(value, bool)
    return text if plain else AXES.get(axis, (f"{axis} = {{}}",))[0].replace("{}", text)


def at(axis: str, value: object) -> str:
    """A value of an axis as the place of a finding: "at 32 frames"."""
    form = AXES[axis][1] if axis in AXES else f"at {axis} = {{}}"
    return form.replace("{}", NAMES.get(str(value), str(value)))


def at_every(axis: str) -> str:
    """All values of an axis as the place of a finding: "at every length"."""
    return AXES[axis][2] if axis in AXES else f"at every {axis}"


def plural(axis: str) -> str:
    """The values of an axis in the plural: "methods"."""
    return PLURALS.get(axis, f"values of {axis}")


def clause(subject: str, words: str) -> str:
    """Subject and predicate: "Independent clips hold a frame at their seams". `words` begin with the verb.

    A name of one word is spelled as it is on the command line.
    """
    if subject in MANY:
        verb, _, rest = words.partition(" ")
        verb = {"is": "are", "has": "have"}.get(verb, verb.removesuffix("s"))
        words = f"{verb} {rest}".replace(" its ", " their ").replace(" itself ", " themselves ")
    return f"{subject[:1].upper() if ' ' in subject else subject[:1]}{subject[1:]} {words}"


def never(subject: str) -> str:
    """That a row never does what another row does: "VidRD never does"."""
    return f"{subject} never {'do' if subject in MANY else 'does'}"
