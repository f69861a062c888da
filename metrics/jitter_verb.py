"""The verb `jitter`: how videos change from frame to frame, and at the seams of their clips."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from metrics.cli_options import Jitter, real_and_fake
from metrics.evaluation.cautions import Content, caution_of_strays, cautions_of_means
from metrics.evaluation.dataset import digest
from metrics.evaluation.measure import FolderReader, FolderScore, Measure, SideValues, measure_videos
from metrics.evaluation.progress import ProgressPrinter
from metrics.evaluation.result import Result, versions
from metrics.score import Score
from metrics.temporal.flow_metrics import CLASSICAL, VBENCH_FPS
from metrics.temporal.optical_flow import Flow
from metrics.temporal.score_folder import check_lengths, measures, phases
from metrics.temporal.seams import Signal
from metrics.videos.read import DECODER, Video, VideoInfo

FEWEST = 3  # frames of a video


def measure_jitter(verb: Jitter) -> Result:
    """The scores of `jitter`, of the generated set and, as `_real`, of the real one where it is given.

    Raises:
        ValueError: more than two sets, videos that cannot be read or are too short, or seams that are none.
    """
    reader = FolderReader(verb.n, verb.allow_gaps, None, ProgressPrinter())
    return prepare_jitter(verb, reader).finish()


def prepare_jitter(verb: Jitter, reader: FolderReader) -> FolderScore:
    """What `jitter` measures, ready to run.

    Raises:
        ValueError: as `measure_jitter`.
    """
    real, fake = real_and_fake(verb.videos)
    sources = {"fake": fake} if real is None else {"real": real, "fake": fake}
    flow = _flow(verb)
    sides = {side: reader.videos(source) for side, source in sources.items()}
    lengths: dict[str, list[int]] = {}
    for side, videos in sides.items():
        of_side = {name: min(info.frames, verb.frames or info.frames) for name, info in reader.infos(videos)}
        if short := next((name for name, frames in of_side.items() if frames < FEWEST), None):
            raise ValueError(f"{short}: changes of change need {FEWEST} frames, got {of_side[short]}: give more")
        lengths[side] = list(of_side.values())
        check_lengths(lengths[side], verb.seams)
    of_sides = {
        side: measures(max(of_side, default=0), seams=verb.seams, dropped=verb.dropped, flow=flow, frames=verb.frames)
        for side, of_side in lengths.items()
    }
    return FolderScore(sides, of_sides["fake"], lambda: _finish(verb, reader, sides, of_sides, flow, sources))


def _flow(verb: Jitter) -> Flow | None:
    if verb.raft is None:
        return CLASSICAL if verb.flow else None
    from metrics.networks.device import resolve_device  # noqa: PLC0415 - torch is slow to import
    from metrics.temporal.raft import load_raft  # noqa: PLC0415

    return load_raft(verb.raft, device=resolve_device(verb.device))


def _finish(
    verb: Jitter,
    reader: FolderReader,
    sides: Mapping[str, Sequence[Video]],
    of_sides: Mapping[str, Sequence[Measure]],
    flow: Flow | None,
    sources: Mapping[str, Path],
) -> Result:
    scores: dict[str, Score] = {}
    values: dict[str, list[float]] = {}
    notes = [] if flow is None else [f"optical flow by {flow.name}"]
    contents: dict[str, Content] = {}
    made_with = versions()
    sets: dict[str, dict[str, object]] = {}
    for side, videos in sides.items():
        measured = measure_videos(videos, of_sides[side], reader, side)
        ending = "" if side == "fake" else "_real"
        scores |= {name + ending: score for name, score in _scores_of(measured, verb.seams).items()}
        values |= {name + ending: value for name, value in measured.values.items()}
        about = {"names_sha256": digest(measured.names), "videos": len(measured.names), "gap_reasons": measured.gaps}
        made_with[side] = about | {"content_sha256": digest(measured.contents)}
        sets[side] = _scale(measured.infos) | {"gaps": len(measured.gaps)}
        contents[side] = measured.content
        notes += _notes(measured, side, flow is not None)
        if side == "real":
            sets[side] |= {"videos": len(measured.names), "content_sha256": digest(measured.contents)}
    manifest: dict[str, object] = {
        "protocol": "jitter",
        "flow": None if flow is None else flow.name,
        "seams": list(verb.seams),
        "dropped": verb.dropped,
        "frames": verb.frames,
        "decoder": DECODER,
        "real": sets.get("real"),
        "fake": sets["fake"],
    }
    notes += [*cautions_of_means(contents), *filter(None, map(caution_of_strays, sources.values()))]
    return Result(scores, manifest, made_with, values, notes)


def _scores_of(measured: SideValues, seams: tuple[int, ...]) -> dict[str, Score]:
    kinds: tuple[Signal, ...] = get_args(Signal)
    signals = {kind: measured.parts[name] for kind in kinds if (name := f"seam_ratio:{kind}") in measured.parts}
    ranks = phases(signals, seams) if seams else {}
    return measured.means() | ranks


def _scale(infos: Sequence[VideoInfo]) -> dict[str, object]:
    """Frame rates and frame sizes of the videos: the scale of a change from frame to frame."""
    rates = {None if info.fps is None else round(info.fps, 3) for info in infos}
    return {
        "fps": sorted(rates, key=lambda rate: rate or 0.0),
        "size": [f"{height}x{width}" for height, width in sorted({(info.height, info.width) for info in infos})],
    }


def _notes(measured: SideValues, side: str, flow: bool) -> list[str]:
    """Lines that a reader of the scores must know: what was left out, and what was assumed."""
    notes = [f"{len(measured.gaps)} {side} videos could not be read and are left out"] if measured.gaps else []
    unknown = [info.fps for info in measured.infos].count(None)
    if flow and unknown:
        notes.append(
            f"{unknown} {side} videos name no frame rate that can be: dynamic_degree takes them for "
            f"{VBENCH_FPS:g} frames per second"
        )
    return notes
