"""`python -m metrics vbench`: measure, export for VBench, or import its results."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from metrics.cli_options import Vbench
from metrics.evaluation.cache import FeatureCache, default_path
from metrics.evaluation.progress import Progress
from metrics.evaluation.result import Result
from metrics.networks.device import resolve_device
from metrics.text.prompts import Prompt, prompt_of_name, read_prompts
from metrics.vbench.bridge import export_videos, import_results
from metrics.vbench.dimensions import Setting
from metrics.vbench.folder import FolderReader, measure_folders
from metrics.videos.read import list_videos


def run_vbench(verb: Vbench, weights: Path | None, report: Callable[[str, Progress], None] | None) -> Result:
    """What the verb asks for.

    Raises:
        ValueError: options that contradict each other, or what measuring, exporting or importing raises.
    """
    if verb.imported is not None:
        if verb.videos or verb.export is not None:
            raise ValueError("--import reads a result and measures nothing: leave out the videos and --export")
        return import_results(verb.imported)
    if not 1 <= len(verb.videos) <= 2:
        raise ValueError(f"give one set of videos, or the real one and then the generated one: got {len(verb.videos)}")
    if verb.batch < 1:
        raise ValueError(f"a batch holds at least one frame: got --batch {verb.batch}")
    if verb.full_info is not None and verb.export is None:
        raise ValueError("--full-info numbers the prompts of --export: give both or neither")
    if verb.export is not None:
        return export_videos(list_videos(verb.videos[-1])[: verb.n], _prompts(verb), verb.export, verb.full_info)
    sources = dict(zip(("real", "fake") if len(verb.videos) == 2 else ("fake",), verb.videos, strict=True))
    setting = Setting(
        weights,
        _prompts(verb),
        compat=verb.compat is not None,
        imaging=verb.imaging,
        device=resolve_device(verb.device),
        batch=verb.batch,
    )
    with ExitStack() as stack:
        cache = None if verb.fresh else stack.enter_context(FeatureCache(verb.cache or default_path()))
        reader = FolderReader(verb.n, verb.allow_gaps, cache, report)
        return measure_folders(sources, setting, wanted=verb.dimensions, reader=reader).named()


def _prompts(verb: Vbench) -> dict[str, Prompt] | None:
    """From the file, or by VBench's rule from the names of files where that is asked for."""
    if verb.prompts is not None:
        return read_prompts(verb.prompts)
    if verb.compat is None:
        return None
    return {video.name: prompt_of_name(video.name) for video in list_videos(verb.videos[-1])}
