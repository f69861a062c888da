"""Ways to get a zero-shot UCF-101 score, one row each: numbers compare within a row only.

A row is data. What its source does not say is named in `unstated`, with the reason for what stands there instead; the
reproduction card prints both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from bench.harness.suite_spec import did_you_mean
from metrics.protocols import FVD, STYLEGANV, Resample, Sampling, Storage

PRIOR = "what later authors of this lineage use"
RELEASED = "the released example's"


@dataclass(frozen=True)
class Protocol:
    """One row of `PROTOCOLS`."""

    summary: str
    source: str
    prompts: str  # a prompt set by name
    allocation: str  # how many videos of which prompt, by name
    split: int  # of UCF-101
    half: Literal["train", "test", "all"]  # of that split: the real videos
    real: Sampling  # which clips of them, stored how
    fake: Sampling
    fvd: tuple[str, ...]  # rows of metrics.protocols.FVD, the first is the main one
    inception: tuple[str, ...]  # rows of metrics.protocols.IS
    unstated: Mapping[str, str]  # field -> why it is so, where the source does not say
    frames: int = 16  # of a generated video and of a clip
    stride: int = 1  # real frames from one frame of a clip to the next, at the video's own rate (25 or 29.97 a second)
    fps: int = 8  # at which generated videos play; scores take their frames as they come
    size: int = 256  # pixels: generated videos, and the square that real ones are stored as
    steps: int = 50
    guidance: float = 10.0
    overlap: int = 4  # frames
    seed: int = 0  # of items, their order and real clips


def _square(size: int) -> Storage:
    """Shorter side to `size`, then the centre: antialias, bytes rounded; leaves squares of that size as they are."""
    return Storage(Resample("bilinear-antialias", "crop", size, "floor"), "round")


SAMPLER = {
    "fps": "no score depends on it",
    "steps": f"{RELEASED}; what the evaluation took is not said",
    "guidance": f"{RELEASED}; what the evaluation took is not said",
    "overlap": f"{RELEASED}: half a clip, so 16 frames are two clips of 8",
    "seed": "none is published",
}
OTHER_MODEL = dict.fromkeys(SAMPLER, "the published row is another model's: here as in vidrd-10k")
SPLITS = "10 shuffled splits of all videos, C3D's input by TGANv2's rule: " + PRIOR

PROTOCOLS: dict[str, Protocol] = {
    "vidrd-10k": Protocol(
        summary="10,000 videos in the class distribution of the training videos, a descriptive prompt a class",
        source="VidRD, arXiv 2309.03549, section 5 and project page",
        prompts="descriptive",
        allocation="vidrd-10k",
        split=1,
        half="train",
        real=Sampling("given", "given", "random", None, storage=_square(256)),
        fake=Sampling("given", "given", "first", None, storage=_square(256)),
        fvd=("styleganv", "tats"),
        inception=("styleganv",),
        unstated={
            "prompts": "VidRD's own are unpublished: ours stand in, or any list by --prompts",
            "split": "the training set is named, its fold is not: the first",
            "half": "the class distribution is the training set's; that the real videos are it too is our reading",
            "real": "one clip a video at random, shorter side to 256, centre: nothing is said",
            "fake": "all frames of each video",
            "fvd": f"the network's file and code are not named; {PRIOR} is one of these two",
            "inception": SPLITS,
            "frames": "C3D reads exactly 16, and 16 is two clips of the released network",
            "stride": "none is named",
            "size": "the released network's",
            **SAMPLER,
        },
    ),
    "videopoet-10k": Protocol(
        summary="10,000 videos against the centres of the training videos",
        source="VideoPoet, arXiv 2312.14125, appendix",
        prompts="descriptive",
        allocation="videopoet-10k",
        split=1,
        half="train",
        real=Sampling("given", "given", "centre", None, storage=_square(128)),
        fake=Sampling("given", "given", "first", None, storage=_square(128)),
        fvd=("styleganv",),
        inception=("styleganv",),
        size=128,
        unstated={
            "prompts": "PYoCo's list is another work's text: give it by --prompts; ours otherwise",
            "allocation": "10,000 are named, their classes are not: the training set's distribution",
            "split": "10,000 training videos are named: those of the first fold, 9,537, are all there are",
            "fake": "all frames of each video",
            "fvd": f"I3D of Kinetics-400 is named, its code is not: {PRIOR}",
            "inception": SPLITS,
            "size": "128 x 224 by a second-hand reading; here the square",
            **OTHER_MODEL,
        },
    ),
    "100-a-class": Protocol(
        summary="100 videos a class of its bare name: 10,100",
        source="LaVie, arXiv 2309.15103; VideoFactory, arXiv 2305.10874",
        prompts="class-name",
        allocation="100-a-class",
        split=1,
        half="all",
        real=Sampling("given", "given", "random", None, storage=_square(256)),
        fake=Sampling("given", "given", "first", None, storage=_square(256)),
        fvd=("tats",),
        inception=("styleganv",),
        unstated={
            "split": "no fold is named",
            "half": "not said: all videos",
            "real": "one clip a video at random: nothing is said",
            "fake": "all frames of each video",
            "inception": SPLITS,
            "size": "LaVie crops 320 x 512; here the network's own square",
            **OTHER_MODEL,
        },
    ),
    "styleganv-2048": Protocol(
        summary="2,048 videos against the first 2,048 by name, as StyleGAN-V's code takes them",
        source="universome/stylegan-v, fvd2048_16f and isv2048_ucf; arXiv 2112.14683",
        prompts="class-name",
        allocation="stylegan-v-2048",
        split=1,
        half="all",
        real=FVD["styleganv"].real,
        fake=FVD["styleganv"].fake,
        fvd=("styleganv",),
        inception=("styleganv",),
        unstated={
            "prompts": "the published models take no text",
            "allocation": "the published models draw no class: the distribution of all videos",
            "split": "training and test videos together: the fold does not matter",
            **OTHER_MODEL,
        },
    ),
}
assert PROTOCOLS["styleganv-2048"].real.storage == STYLEGANV


def protocol(name: str) -> Protocol:
    """A row by its name.

    Raises:
        ValueError: there is none.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"there is no UCF-101 protocol {name!r}{did_you_mean(name, list(PROTOCOLS))}")
    return PROTOCOLS[name]


SETTINGS = tuple(item.name for item in fields(Protocol) if item.name not in ("summary", "source", "unstated"))
