"""The suite `knobs`: what does each setting of a model buy on this machine, and which of them together?

    plain -> every setting alone, in turns with plain -> those that pay, joined one by one, each in turns with the last

A setting is what a command line would say, its parts joined by " + ". It pays if it is faster for certain (95 %) and
loses no more than the user allows. `bench.speed.knob_cell` measures one of them.
"""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bench.harness.suite_spec import Measure, Suite, Values
from bench.results.records import Number, Record, Value
from bench.videos.columns import MEASURES
from bench.videos.knobs.losses import EFFICIENCY, FIRED, LOSSES
from bench.videos.knobs.settings import KNOBS, check, devices_of, is_exact, why_not
from bench.videos.length_suite import LENGTHS, SOLVERS
from bench.videos.length_suite import cost as length_cost
from bench.videos.length_suite import fill as length_fill
from bench.videos.length_suite import settle as length_settle
from bench.videos.length_suite import skip as length_skip
from bench.videos.plan import model_of, rule_of
from vidrd.precision import PRECISIONS

PLAIN = "plain"
JOIN = " + "
SINGLES = (
    "attention=_native_flash", "attention=_native_cudnn", "attention=_native_efficient", "attention=_native_math",
    "attention=flex", "attention=flash", "attention=xformers", "attention=sage",
    "compile=blocks", "compile=whole", "layout=channels-last", "clips=2",
    "offload=model", "offload=group", "vae=tiling",
    "cache=first-block", "cache=taylorseer", "cache=mag", "cache=pab", "cache=faster",
    "steps=50%", "solver=dpmsolver++:50%", "solver=unipc:50%",
    "quantize=int8", "quantize=int8-dynamic", "quantize=fp8", "precision=bf16",
    "gpus=2", "gpus=4", "gpus=8",
)  # fmt: skip
NAMED = (
    "model", "revision", "prompts", "negative", "frames", "clip", "height", "width", "method", "overlap", "precision",
    "steps", "guidance", "budget", *KNOBS,
)  # fmt: skip
OTHERS = ("clips", "steps", "precision", "solver")  # what a setting may name besides the knobs
MARGINS = {"psnr": -1, "ssim": -1, "latent_error": 1, "latent_shift": 1, "fvd": 1}  # a loss -> which sign is worse

COSTS: dict[str, Measure] = {
    "seconds_per_frame": MEASURES["seconds_per_frame"],
    "gain": Measure(
        "faster", "x", "higher", "cost",
        "How many times faster than the setting without its last part, from prompts to frames: trimmed mean of the "
        "ratios of batches that were made one right after the other in one process.",
    ),
    "cold_seconds": Measure("cold s", "s", "lower", "cost", "The very first call, with what torch.compile takes."),
    "step_seconds": MEASURES["step_seconds"],
    "allocated_peak": MEASURES["allocated_peak"]._replace(
        definition="Largest sum of live tensors on the GPU in the timed batches (PyTorch), less what the setting "
        "before, which takes turns with it, holds meanwhile."
    ),
    **EFFICIENCY,
    **FIRED,
}  # fmt: skip
FVD_LOSS: dict[str, Measure] = {
    "fvd_loss": Measure(
        "FVD loss", "", "lower", "quality",
        "How much farther than the plain model's videos from real video of the same captions, of the plain model's own "
        "distance: prompts and noise paired. The pocket model alone has judges.",
    )
}  # fmt: skip


def parts(setting: str) -> list[str]:
    """The parts of a setting, in the order in which they were joined."""
    return [] if setting == PLAIN else setting.split(JOIN)


def with_setting(values: Values, chosen: Sequence[str]) -> dict[str, Value]:
    """The values of the suite `lengths` that the parts of a setting make.

    Raises:
        ValueError: a part that is no setting.
    """
    made = {name: value for name, value in values.items() if name not in ("setting", "loss")}
    for part in chosen:
        name, _, value = part.partition("=")
        head, _, share = value.partition(":") if name == "solver" else (value, "", value if name == "steps" else "")
        if name not in (*KNOBS, *OTHERS) or not value:
            raise ValueError(f"a setting is one of {', '.join((*KNOBS, *OTHERS))} and its value: got {part!r}")
        if name == "clips":
            made["budget"] = _budget(values, int(value) if value.isdigit() else 0, part)
        elif name != "steps":
            made[name] = head
        if share:
            made["steps"] = _fewer(int(values["steps"]), share, part)
    if str(made["precision"]) not in PRECISIONS:
        raise ValueError(f"precision is one of {', '.join(PRECISIONS)}: got {made['precision']!r}")
    if made.get("solver", "ddim") not in SOLVERS:
        raise ValueError(f"solver is one of {', '.join(SOLVERS)}: got {made['solver']!r}")
    check(made)
    return made


def as_lengths(values: Values) -> dict[str, Value]:
    """The values of the suite `lengths` that a cell of `knobs` stands for; those of other suites as they are.

    Raises:
        ValueError: its setting has a part that is none.
    """
    return with_setting(values, parts(str(values["setting"]))) if "setting" in values else dict(values)


def _fewer(steps: int, share: str, part: str) -> int:
    number = share.removesuffix("%")
    if not share.endswith("%") or not number.isdigit() or not 0 < int(number) < 100:
        raise ValueError(f"steps are fewer by a share, as in 50%: got {part!r}")
    return max(1, round(steps * int(number) / 100))


def _budget(values: Values, clips: int, part: str) -> int:
    if clips < 2:
        raise ValueError(f"clips side by side are 2 or more: got {part!r}")
    branches = 1 if float(values["guidance"]) == 1 else 2
    return clips * branches * int(values["batch"]) * rule_of(values).latents(int(values["clip"]))


def inexact(part: str) -> bool:
    """Whether a part of a setting makes an approximation."""
    name, _, value = part.partition("=")
    return name in ("steps", "precision", "solver") or not is_exact(name, value.partition(":")[0])


def allowed_loss(text: str) -> tuple[str, float]:
    """psnr=35 -> a measure and its limit; fvd=5% is a share.

    Raises:
        ValueError: no such measure, or no such number.
    """
    name, _, value = text.partition("=")
    number = value.removesuffix("%")
    try:
        limit = float(number) / (100 if value.endswith("%") else 1)
    except ValueError:
        limit = math.nan
    if name not in MARGINS or not math.isfinite(limit) or (value.endswith("%") and name != "fvd"):
        raise ValueError(
            f"the loss that is allowed is one of {', '.join(MARGINS)}, as in psnr=35 or fvd=5%: got {text!r}"
        )
    return name, limit


def settle(values: dict[str, Value]) -> dict[str, Value]:
    """As in the suite `lengths`; what may be lost decides which settings pay, and is no part of a cell."""
    name, _ = allowed_loss(str(values["loss"]))
    if name == "fvd" and (values["model"] != "pocket" or values["prompts"]):
        raise ValueError(
            "a loss in FVD needs judges, which the pocket model's own captions alone have: use psnr or latent_error"
        )
    if values["real"]:
        raise ValueError("the suite knobs compares with the plain model: leave --real out")
    return {**length_settle(values), "loss": ""}


def fill(values: dict[str, Value]) -> dict[str, Value]:
    """As in the suite `lengths`; every setting is checked."""
    filled = {**length_fill(values)}
    as_lengths(filled)
    return filled


def skip(values: Values) -> str | None:
    """Why this machine, model or method has no such setting."""
    asked = as_lengths(values)
    if str(values["device"]) == "cpu" and asked["precision"] == "fp16" != values["precision"]:
        return "fp16 is computed on GPUs: this cell runs on a CPU"
    if str(values["device"]) == "cpu" and devices_of(asked) > 1:
        return "one thread a device says nothing of a CPU whose plain model has all of them: take the suite lengths"
    return length_skip(asked) or why_not(asked, model_of(values))


def reference(values: Values) -> dict[str, Value] | None:
    """The plain model."""
    return None if values["setting"] == PLAIN else {**values, "setting": PLAIN}


def pays(record: Record, loss: str) -> bool:
    """Whether a setting is faster than the one before for certain, and loses no more than is allowed."""
    gain = record.numbers.get("gain")
    return record.attempt.status == "ok" and gain is not None and (gain.low or 0) > 1 and within(record, loss)


def within(record: Record, loss: str) -> bool:
    """Whether the worse end of a loss's interval is within what is allowed; exact settings are."""
    if not any(map(inexact, parts(str(record.cell.values["setting"])))):
        return True
    name, limit = allowed_loss(loss)
    number = record.numbers.get("fvd_loss" if name == "fvd" else name)
    if number is None:
        return False
    end = number.high if MARGINS[name] > 0 else number.low
    return MARGINS[name] * (number.value if end is None else end) <= MARGINS[name] * limit


def search(records: Mapping[str, Record], loss: str) -> tuple[list[str], str | None]:
    """The parts that pay together, as far as the records tell; and the setting to be measured next, None at the end."""
    alone = [record for setting, record in records.items() if len(parts(setting)) == 1 and pays(record, loss)]
    ordered = [str(each.cell.values["setting"]) for each in sorted(alone, key=lambda each: -each.numbers["gain"].value)]
    chain = ordered[:1]
    for part in ordered[1:]:
        taken = {name for each in chain for name in _concerns(each)}
        if not taken.isdisjoint(_concerns(part)):
            continue
        joined = JOIN.join((*chain, part))
        if joined not in records:
            return chain, joined
        if pays(records[joined], loss):
            chain.append(part)
    return chain, None


def _concerns(part: str) -> set[str]:
    """What a part decides: two parts that decide the same do not go together."""
    name = part.partition("=")[0]
    return {"solver", "steps"} if name in ("solver", "steps") else {name}


def grow(suite: Suite, records: Sequence[Record]) -> Suite | None:
    """The suite with the next joined setting."""
    _, following = search(_by_setting(records), _loss_of(suite))
    if following is None or following in suite.axes["setting"]:
        return None
    return replace(suite, axes={**suite.axes, "setting": (*suite.axes["setting"], following)})


def conclude(suite: Suite, records: Sequence[Record]) -> list[str]:
    """The recommended command line, and what every part of it buys."""
    by_setting, loss = _by_setting(records), _loss_of(suite)
    if PLAIN not in by_setting or by_setting[PLAIN].attempt.status != "ok":
        return []
    (chain, _), values = search(by_setting, loss), by_setting[PLAIN].cell.values
    if not chain:
        return [f"No setting is faster for certain than the plain model within {loss}: leave it as it is."]
    settings = [JOIN.join(chain[: number + 1]) for number in range(len(chain))]
    steps = [by_setting[setting] for setting in settings]
    logs = [_log(record.numbers["gain"]) for record in steps]
    total, error = sum(mean for mean, _ in logs), math.hypot(*(half for _, half in logs))
    low, high = math.exp(total - error), math.exp(total + error)
    bought = [
        f"{part} ({'approximation' if inexact(part) else 'exact'}): {record.numbers['gain'].value:.2f} times as fast "
        f"as without it ({record.numbers['gain'].low:.2f} to {record.numbers['gain'].high:.2f}), then "
        f"{_loss_text(record, loss)}"
        for part, record in zip(chain, steps, strict=True)
    ]
    return [
        f"Recommended within {loss}, {math.exp(total):.2f} times as fast as the plain model ({low:.2f} to {high:.2f}, "
        f"the product of its parts): `{command_line(values, chain)}`.",
        *(f"{text}." for text in bought),
    ]


def _loss_of(suite: Suite) -> str:
    if "loss" not in suite.fixed:
        raise ValueError(f"one loss is allowed: got {', '.join(map(str, suite.axes['loss']))}")
    return str(suite.fixed["loss"])


def _by_setting(records: Sequence[Record]) -> dict[str, Record]:
    return {str(record.cell.values["setting"]): record for record in records}


def _log(gain: Number) -> tuple[float, float]:
    low, high = (gain.value if end is None else end for end in (gain.low, gain.high))
    return math.log(gain.value), math.log(high / low) / 2


def _loss_text(record: Record, loss: str) -> str:
    name, _ = allowed_loss(loss)
    number = record.numbers.get("fvd_loss" if name == "fvd" else name)
    return "no loss was measured" if number is None else f"{name} {number.value:.3g}, n = {number.n}"


def command_line(values: Values, chain: Sequence[str]) -> str:
    """The sweep of the suite `lengths` with these settings."""
    made = with_setting(values, chain)
    given = [(name, made[name]) for name in NAMED if made.get(name) not in (None, "", 0)]
    return shlex.join(["python", "-m", "bench", "run", "--suite", "lengths", *(f"--{name}={v}" for name, v in given)])


def cost(values: Values) -> float:
    """A setting and the one before, and a compiler's minute."""
    asked = as_lengths(values)
    return 2 * length_cost(asked) + (20000.0 if asked.get("compile", "no") != "no" else 0.0)


KNOB_SUITE = Suite(
    question="What does every setting of a model buy on this machine, what does it lose, and which pay together?",
    workload="knobs",
    axes={"setting": (PLAIN, *SINGLES)},
    fixed={
        **{name: values[0] for name, values in LENGTHS.axes.items()},
        **LENGTHS.fixed,
        "frames": 17,
        "method": "independent",
        "model": "tiny:WanPipeline:2.1-euler",
        "videos": 6,
        "loss": "psnr=35",  # what an approximation may lose: the end of its interval
    },
    measures={**LOSSES, **FVD_LOSS, **COSTS},
    group="frames",
    headlines=("gain", "seconds_per_frame", "psnr", "latent_error"),
    allowed={name: values for name, values in LENGTHS.allowed.items() if name != "equal"} | {"equal": ("steps",)},
    least=LENGTHS.least,
    settle=settle,
    fill=fill,
    skip=skip,
    emulated=lambda values: LENGTHS.emulated(as_lengths(values)),
    cost=cost,
    inexact=lambda axis, value: axis == "setting" and any(map(inexact, parts(str(value)))),
    reference=reference,
    among=lambda _: True,
    grow=grow,
    conclude=conclude,
    alone=True,
)  # fmt: skip
