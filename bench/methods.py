"""The samplers that the bench compares. A new one is a file in baselines/ and a line here."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_type_hints

import baselines.co_denoise
import baselines.direct
import baselines.fifo
import baselines.forcing
import baselines.freenoise
import baselines.independent
import baselines.replace
import vidrd.sampling
from baselines.priors import PRIORS, FreeInit, TiedNoise, again, again_plan
from vidrd.denoiser import ONE_LEVEL
from vidrd.noise import KeyedNoise
from vidrd.sampler_contract import Plan, Result

if TYPE_CHECKING:
    from baselines.model_contract import Model


class Method(NamedTuple):
    """One way to make a long video; a sampler with some choice of its options."""

    plan: Callable[..., Plan]  # (request, steps, options)
    sample: Callable[..., Result]  # (denoise, schedule, request, options, *, noise, on_event, device, dtype)
    options: Callable[[int], Any]  # overlap in frames -> the method's options
    takes_overlap: bool  # False: the overlap changes nothing, so a sweep runs the method once
    paper: str
    summary: str  # one line
    per_frame: bool = False  # its frames stand at levels of their own, which not every network takes
    cuts_attention: bool = False  # it needs temporal attention in windows
    any_order: bool = False  # its steps follow no order of a clip, which a solver with a memory needs

    @property
    def goes_on(self) -> bool:
        """Whether it can go on from given frames."""
        return self.sample in GOING_ON


GOING_ON = (vidrd.sampling.sample, baselines.replace.sample, baselines.fifo.sample)
METHODS: dict[str, Method] = {
    "vidrd": Method(
        plan=vidrd.sampling.plan,
        sample=vidrd.sampling.sample,
        options=lambda overlap: vidrd.sampling.Options(overlap=overlap),
        takes_overlap=True,
        paper="Gu et al. 2023, Reuse and Diffuse, arXiv 2309.03549",
        summary="each clip from the last one's noise, reversed, its first frames guided by the last one's states",
    ),
    "vidrd-forwards": Method(
        plan=vidrd.sampling.plan,
        sample=vidrd.sampling.sample,
        options=vidrd.sampling.forwards,
        takes_overlap=True,
        paper="remedies of this project for what Reuse and Diffuse repeats",
        summary="each clip goes on from fresh noise, the overlap guided by the last one's states, then left out",
    ),
    "independent": Method(
        plan=baselines.independent.plan,
        sample=baselines.independent.sample,
        options=lambda overlap: baselines.independent.Options(),
        takes_overlap=False,
        paper="null model",
        summary="unrelated clips: a hard cut at every seam",
    ),
    "independent-shared": Method(
        plan=baselines.independent.plan,
        sample=baselines.independent.sample,
        options=lambda overlap: baselines.independent.Options(shared_noise=True),
        takes_overlap=False,
        paper="null model",
        summary="every clip from the same noise: the same clip again and again",
    ),
    "direct": Method(
        plan=baselines.direct.plan,
        sample=baselines.direct.sample,
        options=lambda overlap: baselines.direct.Options(),
        takes_overlap=False,
        paper="null model",
        summary="all frames in one window, beyond the length that the network was trained on",
    ),
    "codenoise": Method(
        plan=baselines.co_denoise.plan,
        sample=baselines.co_denoise.sample,
        options=lambda overlap: baselines.co_denoise.Options(overlap=overlap),
        takes_overlap=True,
        paper="Wang et al. 2023, Gen-L-Video, arXiv 2305.18264; Bar-Tal et al. 2023, MultiDiffusion, arXiv 2302.08113",
        summary="overlapping windows denoised together, the mean of their predictions at every step",
    ),
    "codenoise-cut": Method(
        plan=baselines.co_denoise.plan,
        sample=baselines.co_denoise.sample,
        options=lambda overlap: baselines.co_denoise.Options(overlap=overlap, blend="cut"),
        takes_overlap=True,
        paper="Henschel et al. 2024, StreamingT2V's randomised blending, arXiv 2403.14773",
        summary="the same with a random hard cut in each overlap and step instead of a mean",
    ),
    "codenoise-rescheduled": Method(
        plan=baselines.co_denoise.plan,
        sample=baselines.co_denoise.sample,
        options=lambda overlap: baselines.co_denoise.Options(overlap=overlap, noise="rescheduled"),
        takes_overlap=True,
        paper="Qiu et al. 2023, FreeNoise, arXiv 2310.15169, without its hook",
        summary="the same from shuffled repeats of the first clip's noise",
    ),
    "flowlong": Method(
        plan=baselines.co_denoise.plan,
        sample=baselines.co_denoise.sample,
        options=baselines.co_denoise.flowlong,
        takes_overlap=True,
        paper="KAIST and Amazon 2026, FlowLong, arXiv 2605.20910",
        summary="the same, cross-faded, with all noise drawn anew at every step of the noisy phase",
        any_order=True,
    ),
    "videomerge": Method(
        plan=baselines.co_denoise.plan,
        sample=baselines.co_denoise.sample,
        options=baselines.co_denoise.videomerge,
        takes_overlap=True,
        paper="Zhang et al. 2025, VideoMerge, arXiv 2503.09926",
        summary="the same with states fused under half a sine wave, from noise that clips share in part",
        any_order=True,
    ),
    "diffvf": Method(
        plan=baselines.co_denoise.plan,
        sample=baselines.co_denoise.sample,
        options=baselines.co_denoise.diffvf,
        takes_overlap=True,
        paper="SJTU 2026, Diff-VF, arXiv 2608.05976",
        summary="the same from noise that clips share in part, in every second step in windows spread over the video",
    ),
    "syncos": Method(
        plan=baselines.co_denoise.plan,
        sample=baselines.co_denoise.sample,
        options=baselines.co_denoise.syncos,
        takes_overlap=True,
        paper="Kim et al. 2025, SynCoS, arXiv 2503.08605",
        summary="windows denoised together, at every step refined twice by what all windows would change",
    ),
    "freenoise": Method(
        plan=baselines.freenoise.plan,
        sample=baselines.freenoise.sample,
        options=lambda overlap: baselines.freenoise.Options(),
        takes_overlap=False,
        paper="Qiu et al. 2023, FreeNoise, arXiv 2310.15169",
        summary="one pass over all frames from shuffled repeats of noise, temporal attention in windows",
        cuts_attention=True,
    ),
    "freelong": Method(
        plan=baselines.freenoise.plan,
        sample=baselines.freenoise.sample,
        options=lambda overlap: baselines.freenoise.freelong(),
        takes_overlap=False,
        paper="Lu et al. 2024, FreeLong, arXiv 2407.19918",
        summary="one pass over all frames, low frequencies of full temporal attention and high ones of windows",
        cuts_attention=True,
    ),
    "freelong-bands": Method(
        plan=baselines.freenoise.plan,
        sample=baselines.freenoise.sample,
        options=lambda overlap: baselines.freenoise.freelong(bands=4),
        takes_overlap=False,
        paper="Lu et al. 2025, FreeLong++, arXiv 2507.00162",
        summary="the same with windows of one, two and four clips, from noise whose low frequencies clips share",
        cuts_attention=True,
    ),
    "freepca": Method(
        plan=baselines.freenoise.plan,
        sample=baselines.freenoise.sample,
        options=lambda overlap: baselines.freenoise.freepca(),
        takes_overlap=False,
        paper="Tan et al. 2025, FreePCA, arXiv 2505.01172",
        summary="windows with a few principal components of full attention, from noise whose means clips share",
        cuts_attention=True,
    ),
    "replace": Method(
        plan=baselines.replace.plan,
        sample=baselines.replace.sample,
        options=lambda overlap: baselines.replace.Options(overlap=overlap),
        takes_overlap=True,
        paper="Ho et al. 2022, Video Diffusion Models, arXiv 2204.03458",
        summary="clip after clip, its first frames replaced by the last one's end, freshly noised, before every call",
        any_order=True,
    ),
    "replace-resampled": Method(
        plan=baselines.replace.plan,
        sample=baselines.replace.sample,
        options=lambda overlap: baselines.replace.Options(overlap=overlap, resample=5),
        takes_overlap=True,
        paper="Lugmayr et al. 2022, RePaint, arXiv 2201.09865",
        summary="the same with every step of a later clip done five times, renoised in between",
        any_order=True,
    ),
    "replace-trajectory": Method(
        plan=baselines.replace.plan,
        sample=baselines.replace.sample,
        options=lambda overlap: baselines.replace.Options(overlap=overlap, known="trajectory"),
        takes_overlap=True,
        paper="an ablation between replacement and VidRD",
        summary="the same with the last clip's own states instead of its end noised again",
        any_order=True,
    ),
    "cono": Method(
        plan=baselines.replace.plan,
        sample=baselines.replace.sample,
        options=baselines.replace.cono,
        takes_overlap=True,
        paper="Wang et al. 2024, CoNo, arXiv 2406.05082",
        summary="replacement in the first and last third of the steps; in between known and new frames go on together",
        any_order=True,
    ),
    "fifo": Method(
        plan=baselines.fifo.plan,
        sample=baselines.fifo.sample,
        options=lambda overlap: baselines.fifo.Options(),
        takes_overlap=False,
        paper="Kim et al. 2024, FIFO-Diffusion, arXiv 2405.11473",
        summary="frames in a queue, each a step cleaner than the next; windows see cleaner frames ahead",
        per_frame=True,
        any_order=True,
    ),
    "fifo-plain": Method(
        plan=baselines.fifo.plan,
        sample=baselines.fifo.sample,
        options=lambda overlap: baselines.fifo.Options(lookahead=False),
        takes_overlap=False,
        paper="Kim et al. 2024, FIFO-Diffusion, arXiv 2405.11473, algorithm 1",
        summary="the same without looking ahead, at half the cost",
        per_frame=True,
        any_order=True,
    ),
    "fifo-zigzag": Method(
        plan=baselines.fifo.plan,
        sample=baselines.fifo.sample,
        options=lambda overlap: baselines.fifo.miga(),
        takes_overlap=False,
        paper="AMAP 2026, MIGA's queue and prefix, arXiv 2605.18233",
        summary="a queue whose level changes every second frame; a quarter of every call is the clean head",
        per_frame=True,
        any_order=True,
    ),
    "fifo-neighbor": Method(
        plan=baselines.fifo.plan,
        sample=baselines.fifo.sample,
        options=lambda overlap: baselines.fifo.Options(tail="neighbor"),
        takes_overlap=False,
        paper="Chen et al. 2025, Ouroboros-Diffusion's tail, arXiv 2501.09019",
        summary="FIFO whose frames enter the queue with the low frequencies of the frame before",
        per_frame=True,
        any_order=True,
    ),
    "forcing": Method(
        plan=baselines.forcing.plan,
        sample=baselines.forcing.sample,
        options=lambda overlap: baselines.forcing.Options(),
        takes_overlap=False,
        paper="Chen et al. 2025, SkyReels-V2's diffusion forcing, arXiv 2504.13074",
        summary="every frame some steps behind the one before it, as few as a clip can hold",
        per_frame=True,
    ),
}

# Options that a suite may name as axes.
VARIED = ("alpha", "beta", "join", "reverse", "stages", "guide", "compat", "positions")
NOISE = (*PRIORS, "freeinit")  # priors over the initial noise that any method takes


def options_of(values: Mapping[str, Any]) -> Any:
    """The options of a cell's method: by its overlap, and by name where the suite varies them and the method has them.

    Raises:
        ValueError: the method has the option, but not with that value.
    """
    options = METHODS[str(values["method"])].options(int(values["overlap"]))
    return replace(options, **{name: values[name] for name in VARIED if name in values and hasattr(options, name)})


def offers(values: Mapping[str, Any]) -> bool:
    """Whether the method has that way of a published code."""
    options = METHODS[str(values["method"])].options(int(values["overlap"]))
    return values["compat"] in get_args(get_type_hints(type(options)).get("compat"))


def unsuited(method: Method, model: "Model", *, longer: bool) -> str | None:
    """Why a model cannot do what the method needs; `longer`: the video is longer than a clip."""
    if method.per_frame and longer and model.levels == "video":
        return ONE_LEVEL
    if method.cuts_attention and not model.windowed:
        return "the temporal attention of this model cannot be cut in windows: use a method that leaves it as it is"
    return None


def with_noise(method: Method, name: str) -> Method:
    """The method on noise of that prior; FreeInit runs it several times, which its plan counts.

    Raises:
        ValueError: there is no such prior. FreeInit's plan refuses methods that do not start from what they draw.
    """
    if name not in NOISE:
        raise ValueError(f"noise is one of {', '.join(NOISE)}: got {name!r}")
    if name == "freeinit":
        return method._replace(
            plan=lambda request, steps, options: again_plan(method.plan(request, steps, options), FreeInit()),
            sample=lambda denoise, schedule, request, options, **more: again(
                method.sample, denoise, schedule, request, options, plan=method.plan, **more
            ),
        )
    tie = PRIORS[name]
    if tie is None:
        return method

    def sample(denoise: Any, schedule: Any, request: Any, options: Any, **more: Any) -> Result:
        noise = more.pop("noise", None) or KeyedNoise(request.seeds)
        return method.sample(denoise, schedule, request, options, noise=TiedNoise(noise, tie()), **more)

    return method._replace(sample=sample)
