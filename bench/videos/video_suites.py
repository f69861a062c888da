"""The sweeps that make videos and judge them. A new one is an entry of VIDEO_SUITES, most often
`replace(POCKET, ...)`."""

from collections.abc import Mapping
from dataclasses import replace

from bench.hardware.device import NO_CUDA, emulated, has_cuda, named_device
from bench.harness.suite_spec import Suite
from bench.methods import METHODS, NOISE, VARIED, offers
from bench.results.records import Value
from bench.videos.columns import CHANGE_MEASURES, CONTINUATION_MEASURES, FLOW_MEASURES, JUDGED, LONG_MEASURES, MEASURES
from bench.videos.equal_cost import EQUAL
from bench.videos.length_suite import LENGTHS
from bench.videos.plan import GIVEN, plan_of
from metrics.networks.pocket import MIN_FRAMES
from vidrd.precision import PRECISIONS, default_precisions

NATIVE = default_precisions(str(named_device("auto")))  # by the machine: what it computes, or float32 of bf16 weights
UNUSED: dict[str, Value] = {
    "overlap": 0, "precision": "fp32", "steps": 0, "guidance": 0.0, "batch": 0, "seed": 0, "noise": "iid", "budget": 0,
    "alpha": 0.0, "beta": 0.0, "join": "keep", "reverse": True, "stages": "linear", "guide": "hard",
    "compat": "paper", "blend": 0,
}  # fmt: skip


def settle(values: dict[str, Value]) -> dict[str, Value]:
    """Name the device, and clear what has no meaning: the overlap of methods whose clips do not overlap, say."""
    device = named_device(values["device"])
    if values["method"] in GIVEN:
        return {**real(values), "method": values["method"], "device": device}
    if not METHODS[str(values["method"])].takes_overlap:
        values = {**values, "overlap": 0}
    if "reverse" in values:
        values = settle_ideas(values)
    if "compat" in values and not offers(values):
        values = {**values, "compat": "paper"}
    return {**values, "device": device}


def settle_ideas(values: dict[str, Value]) -> dict[str, Value]:
    """Set VidRD's options that have no effect next to the others to their neutral value; all, for another method."""
    if values["method"] != "vidrd":
        return {**values, **{name: UNUSED[name] for name in VARIED if name in values and name != "compat"}}
    if values["overlap"] == 0:  # nothing is held, nothing guided
        values = {**values, "join": "keep", "beta": 0.0}
    elif not values["reverse"]:  # the whole overlap repeats: kept, it would stutter
        values = {**values, "join": "drop_duplicate"}
    if values["beta"] == 0:
        values = {**values, "stages": "linear", "guide": "hard"}
    if values["overlap"] == values["clip"] and values["compat"] == "paper":  # no noise is renewed
        values = {**values, "alpha": 0.0}
    if values["overlap"] == 0 and values["alpha"] == 0:  # independent clips: there is nothing to turn round
        values = {**values, "reverse": True}
    return values


def real(values: Mapping[str, Value]) -> dict[str, Value]:
    """Real video of the same captions and length: nothing of how videos are generated has a meaning for it."""
    return {**values, **{name: value for name, value in UNUSED.items() if name in values}, "method": "real"}


def skip(values: Mapping[str, Value]) -> str | None:
    """Why this machine or this method cannot do it."""
    names = ("frames", "window", "videos", "batch", "real_videos")
    frames, window, videos, batch, real_videos = (int(values[name]) for name in names)
    generated, on_gpu = values["method"] not in GIVEN, values["device"] == "cuda"
    reasons = {
        f"{frames} frames are fewer than the classifiers' window of {window}: give more, or a shorter --window": (
            frames < window
        ),
        NO_CUDA: on_gpu and not has_cuda(),
        f"{real_videos} real videos do not show each of {videos} captions: try {10 * videos}": (
            values["real_captions"] == "same" and real_videos < videos
        ),
        f"{videos} videos do not come in batches of {batch}, and only like batches can be timed together": (
            generated and videos % batch > 0
        ),
    }
    reason = next((reason for reason, holds in reasons.items() if holds), None)
    if reason is None and generated:
        try:
            plan_of(values)
        except ValueError as error:
            return str(error)
    return reason


def cost(values: Mapping[str, Value]) -> float:
    """Frame evaluations of the cell, and a little for its start and its scores."""
    start = 2000.0
    if values["method"] in GIVEN:
        return start
    branches = 1 if values["guidance"] == 1 else 2
    return start + int(values["videos"]) * branches * plan_of(values).fe if skip(values) is None else 0.0


POCKET = Suite(
    question="What do longer videos cost, and what do they lose, by method, overlap and precision? (pocket world)",
    workload="pocket",
    axes={
        "frames": (16, 32),
        "method": ("vidrd", "independent", "direct"),
        "overlap": (2, 6),
        "precision": NATIVE,
    },
    fixed={
        "seed": 0,
        "videos": 21,  # of each cell
        "batch": 3,  # videos in one call: seven batches; six are the fewest with an interval of their median
        "steps": 8,
        "guidance": 2.0,
        "equal": "steps",  # what the methods have in common: "steps", "fe" a frame, or "seconds" (equal_cost.py)
        "noise": "iid",  # prior of the initial noise
        "budget": 0,  # frames, both branches of guidance, that one network call may hold; 0: a window of every video
        "clip": 8,  # frames one network call sees
        "window": 16,  # frames the classifiers see
        "real_videos": 210,  # that FVD compares with
        "real_captions": "same",  # as the prompts; "other": drawn freely, which takes a thousand videos to tell much
        "device": "auto",
    },
    measures=MEASURES,
    group="frames",
    headlines=("fvd", "seam_off", "duplicates", "mirror", "repeat", "drift", "seconds_per_frame", "process_peak"),
    files=("weights/pocket", "weights/pocket-judges"),
    allowed={
        "method": (*METHODS, "still"),
        "precision": tuple(PRECISIONS),
        "real_captions": ("same", "other"),
        "equal": EQUAL,
        "noise": NOISE,
        "device": ("auto", "cpu", "cuda"),
    },
    least={"frames": 1, "videos": 3, "batch": 1, "steps": 1, "clip": 1, "window": 3, "real_videos": 3},
    settle=settle,
    reference=real,
    skip=skip,
    emulated=emulated,
    cost=cost,
    predict=LENGTHS.predict,
)

SAMPLERS = replace(
    POCKET,
    question="How do the ways to make a long video compare at equal cost? (pocket world)",
    axes={"equal": ("fe",), "method": tuple(METHODS)},
    fixed={
        **{name: value for name, value in POCKET.fixed.items() if name != "equal"},
        "frames": 32,
        "overlap": 4,
        "precision": "fp32",
        "videos": 32,
        "batch": 16,
        "steps": 16,
        "real_videos": 320,
    },
    measures=MEASURES | FLOW_MEASURES,
    group="equal",
)


def skip_changes(values: Mapping[str, Value]) -> str | None:
    """As `skip`; and segments too short for windows inside and between them."""
    frames, segment = int(values["frames"]), int(values["segment"])
    if segment < 2 * MIN_FRAMES or frames <= segment or 0 < frames % segment < MIN_FRAMES:
        return (
            f"a video has two segments or more, each of {2 * MIN_FRAMES} frames at least, the last one of "
            f"{MIN_FRAMES}: got segments of {segment} in {frames} frames"
        )
    return skip(values)


CHANGES = replace(
    SAMPLERS,
    question="When the prompt changes on the way: does the video follow, how fast, at what cost? (pocket world)",
    workload="changes",
    fixed={
        **SAMPLERS.fixed,
        "frames": 40,
        "window": MIN_FRAMES,
        "segment": 20,  # frames from one change of the prompt to the next; no whole clips, so that windows meet both
        "blend": 4,  # frames around a change in which both texts count
    },
    measures={name: about for name, about in MEASURES.items() if name not in JUDGED} | CHANGE_MEASURES,
    headlines=("own_colour", "own_action", "old", "lag", "crossing", "change_d", "fvd_change"),
    allowed={**SAMPLERS.allowed, "method": tuple(METHODS), "window": (MIN_FRAMES,), "real_captions": ("same",)},
    least={**SAMPLERS.least, "segment": 1},
    skip=skip_changes,
)


def skip_long(values: Mapping[str, Value]) -> str | None:
    """As `skip`; videos or clips too short; and methods that hold the whole video in a call, if that takes too long."""
    frames, clip = int(values["frames"]), int(values["clip"])
    if values["method"] in WHOLE and frames > LONGEST_CALL:
        return (
            f"one call would hold {frames} frames, whose attention grows with their square: give {LONGEST_CALL} or less"
        )
    if clip < MIN_FRAMES or frames < 4 * clip:
        return (
            f"lags to half a video need 4 clips, of {MIN_FRAMES} frames or more: got {frames} frames in clips of {clip}"
        )
    return skip(values)


WHOLE = ("direct", *(name for name, method in METHODS.items() if method.cuts_attention))
LONGEST_CALL = 128
LONG = replace(
    SAMPLERS,
    question="What does each method lose in minutes of video, and what first, compared with real video? (pocket world)",
    workload="long",
    axes={"frames": (32, 128, 512, 1024), "method": tuple(METHODS)},
    fixed={
        **{name: value for name, value in SAMPLERS.fixed.items() if name != "frames"},
        "equal": "fe",
        "window": MIN_FRAMES,
        "videos": 16,
        "batch": 4,
        "real_videos": 160,
    },
    measures={name: about for name, about in MEASURES.items() if about.table == "cost"} | LONG_MEASURES,
    group="frames",
    headlines=("fvd_end", "identity_end", "action_end", "alike_20", "contrast_drift", "cycle", "held_frames"),
    allowed={**SAMPLERS.allowed, "method": tuple(METHODS), "window": (MIN_FRAMES,), "real_captions": ("same",)},
    skip=skip_long,
    timeout=7200.0,
)
CONTINUATION = replace(
    SAMPLERS,
    question="How far do videos drift from the real video that they go on from? (pocket world, equal fe)",
    axes={**SAMPLERS.axes, "method": tuple(name for name, method in METHODS.items() if method.goes_on)},
    fixed={**SAMPLERS.fixed, "frames": 48, "given": 16},  # of the real video, which count in `frames`
    measures=MEASURES | CONTINUATION_MEASURES,
    headlines=("near", "far", "seam_off", "fvd", "drift", "action"),
    allowed={**SAMPLERS.allowed, "method": tuple(name for name, method in METHODS.items() if method.goes_on)},
    least={**SAMPLERS.least, "given": 1},
)
ABLATION = replace(
    SAMPLERS,
    question="What does each idea of VidRD buy, and what stops its content from cycling? (pocket world, equal fe)",
    axes={
        "equal": ("fe",),
        "method": ("independent", "vidrd"),  # none of its ideas, and any of them
        "reverse": (True, False),
        "overlap": (2, 4),
        "alpha": (0.0, 1.0, 4.0),
        "beta": (0.0, 0.4),
        "join": ("keep", "drop_duplicate"),
    },
    fixed={
        **{name: value for name, value in SAMPLERS.fixed.items() if name != "overlap"},
        "stages": "linear",
        "guide": "hard",
        "compat": "paper",
        "videos": 20,
        "batch": 20,
        "steps": 10,
        "real_videos": 400,
    },
    allowed={
        **SAMPLERS.allowed,
        "method": ("independent", "vidrd"),
        "reverse": (True, False),
        "join": ("keep", "drop_duplicate"),
        "stages": ("linear", "constant"),
        "guide": ("hard", "blend"),
        "compat": ("paper", "released"),
    },
    headlines=("mirror", "repeat", "seam_off", "fvd"),
)

VIDEO_SUITES: dict[str, Suite] = {
    "pocket": POCKET,
    "lengths": LENGTHS,
    "clips": replace(
        POCKET,
        question="How good are single clips, compared with real and still video? (pocket world)",
        axes={"method": ("still", "independent")},
        fixed={
            **POCKET.fixed,
            "frames": 8,
            "window": 8,
            "overlap": 0,
            "precision": "fp32",
            "videos": 1024,
            "batch": 64,
            "steps": 20,
            "real_videos": 1024,
            "real_captions": "other",
        },
    ),
    "samplers": SAMPLERS,
    "samplers-steps": replace(
        SAMPLERS,
        question="How do the ways to make a long video compare at equal steps, whatever they cost? (pocket world)",
        axes={**SAMPLERS.axes, "equal": ("steps",)},
    ),
    "samplers-seconds": replace(
        SAMPLERS,
        question="How do the ways to make a long video compare in equal time on this machine? (pocket world)",
        axes={**SAMPLERS.axes, "equal": ("seconds",)},
    ),
    "ablation": ABLATION,
    "changes": CHANGES,
    "long": LONG,
    "continuation": CONTINUATION,
    "compat": replace(
        SAMPLERS,
        question="What do the traps of the published codes change? (pocket world)",
        axes={
            "equal": ("steps",),
            "method": ("vidrd", "codenoise", "freenoise", "fifo"),
            "compat": ("paper", "released", "genl", "official"),
        },
        # 16 steps are whole clips of 8, which FIFO's code wants
        fixed={**SAMPLERS.fixed, "frames": 30, "videos": 20, "batch": 20},
        allowed={
            **SAMPLERS.allowed,
            "compat": ("paper", "released", "genl", "official", "diffusers", "repaint", "streamingt2v"),
        },
    ),
    "smoke": replace(
        POCKET,
        question="Does the whole way work? Two short cells; the numbers mean nothing. (pocket world)",
        axes={"method": ("vidrd", "independent")},
        fixed={
            **POCKET.fixed,
            "frames": 16,
            "overlap": 4,
            "precision": "fp32",
            "videos": 4,
            "batch": 2,
            "steps": 4,
            "real_videos": 16,
        },
    ),
    "gate": replace(
        POCKET,
        question="Is a change slower, larger or worse? What `python -m bench gate` measures. (pocket world)",
        axes={
            "method": ("vidrd", "direct"),
            "precision": tuple(name for name in NATIVE if not name.endswith("-weights")),  # arithmetic of its own
        },
        fixed={**POCKET.fixed, "frames": 16, "overlap": 4, "videos": 24, "batch": 2, "steps": 4},
    ),
}
