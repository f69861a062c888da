"""The verbs that measure folders video by video: `vbench`, with its export and import, `alignment` and `minutes`."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from metrics.cli_options import Alignment, Minutes, Reading, Vbench
from metrics.evaluation.cache import FeatureCache, default_path
from metrics.evaluation.measure import FolderReader, Measure, Measured, choose_measures, measure_sides
from metrics.evaluation.progress import Progress
from metrics.evaluation.result import Result
from metrics.intervals import mean_score
from metrics.networks.device import resolve_device
from metrics.networks.folder import WeightsFolder
from metrics.networks.vision_files import TEXT_SIZES
from metrics.score import Score
from metrics.temporal import score_minutes
from metrics.text import alignment
from metrics.text.clip_score import clip_ratio
from metrics.text.prompts import Prompt, count_cut, hash_prompts, prompt_of_name, read_prompts
from metrics.vbench.bridge import export_videos, import_results
from metrics.vbench.dimensions import Setting
from metrics.vbench.folder import measure_folders
from metrics.videos.read import list_videos

Report = Callable[[str, Progress], None]


def measure_folder(verb: Vbench | Alignment | Minutes, weights: Path | None, report: Report | None) -> Result:
    """What the verb asks for.

    Raises:
        ValueError: options that contradict each other, or what measuring, exporting or importing raises.
    """
    if isinstance(verb, Vbench) and verb.imported is not None:
        if verb.videos or verb.export is not None:
            raise ValueError("--import reads a result and measures nothing: leave out the videos and --export")
        return import_results(verb.imported)
    if not 1 <= len(verb.videos) <= 2:
        raise ValueError(f"give one set of videos, or the real one and then the generated one: got {len(verb.videos)}")
    if isinstance(verb, Vbench) and (verb.full_info is not None or verb.export is not None):
        return _export(verb)
    sources = dict(zip(("real", "fake") if len(verb.videos) == 2 else ("fake",), verb.videos, strict=True))
    with ExitStack() as stack:
        reader = _reader(verb.reading, report, stack)
        if isinstance(verb, Vbench):
            return _vbench(verb, _folder(weights, verb.reading, verb), sources, reader).named()
        networks = _folder(weights, verb.reading)
        if isinstance(verb, Alignment):
            return _alignment(verb, networks, sources, reader).named()
        return _minutes(verb, networks, sources, reader).named()


def _folder(weights: Path | None, reading: Reading, verb: Vbench | None = None) -> WeightsFolder:
    imaging = "longer" if verb is None else verb.imaging
    return WeightsFolder(weights, device=resolve_device(reading.device), batch=reading.batch, imaging=imaging)


def _reader(reading: Reading, report: Report | None, stack: ExitStack) -> FolderReader:
    cache = None if reading.fresh else stack.enter_context(FeatureCache(reading.cache or default_path()))
    return FolderReader(reading.n, reading.allow_gaps, cache, report)


def _export(verb: Vbench) -> Result:
    if verb.export is None:
        raise ValueError("--full-info numbers the prompts of --export: give both or neither")
    videos = list_videos(verb.videos[-1])[: verb.reading.n]
    return export_videos(videos, _prompts(verb), verb.export, verb.full_info)


def _vbench(verb: Vbench, networks: WeightsFolder, sources: Mapping[str, Path], reader: FolderReader) -> Result:
    setting = Setting(networks, _prompts(verb), compat=verb.compat is not None)
    return measure_folders(sources, setting, wanted=verb.dimensions, reader=reader)


def _prompts(verb: Vbench) -> dict[str, Prompt] | None:
    """From the file, or by VBench's rule from the names of files where that is asked for."""
    if verb.prompts is not None:
        return read_prompts(verb.prompts)
    if verb.compat is None:
        return None
    return {video.name: prompt_of_name(video.name) for source in verb.videos for video in list_videos(source)}


def _alignment(verb: Alignment, networks: WeightsFolder, sources: Mapping[str, Path], reader: FolderReader) -> Result:
    prompts = read_prompts(verb.prompts)
    about = {"protocol": f"clip-{verb.size}", "prompts_sha256": hash_prompts(prompts)}
    of_measures = alignment.loaders(networks, prompts, verb.size)
    result = _measured(of_measures, verb.measures, sources, reader, alignment.scores_of, about)
    length = TEXT_SIZES[verb.size]["length"]
    cut = count_cut(list(prompts.values()), networks.tokenizer, length)
    result.notes.append(f"{cut} of {len(prompts)} prompts have more than {length} tokens, and were cut there")
    if {"clipsim", "clipsim_real"} <= result.scores.keys():
        result.scores["clip_ratio"] = clip_ratio(result.scores["clipsim"], result.scores["clipsim_real"])
    return result


def _minutes(verb: Minutes, networks: WeightsFolder, sources: Mapping[str, Path], reader: FolderReader) -> Result:
    def summarize(measured: Measured) -> dict[str, Score]:
        return {name: mean_score(values, name) for name, values in measured.values.items()}

    prompts = None if verb.prompts is None else read_prompts(verb.prompts)
    hashed = None if prompts is None else hash_prompts(prompts)
    about = {"protocol": "minutes", "window": verb.window, "prompts_sha256": hashed}
    of_measures = score_minutes.loaders(networks, verb.window, prompts)
    return _measured(of_measures, verb.measures, sources, reader, summarize, about)


def _measured(
    of_measures: Mapping[str, Callable[[], Measure]],
    wanted: Sequence[str],
    sources: Mapping[str, Path],
    reader: FolderReader,
    summarize: Callable[[Measured], dict[str, Score]],
    about: Mapping[str, object],
) -> Result:
    sides = {side: reader.videos(source) for side, source in sources.items()}
    infos = [info for videos in sides.values() for info in reader.infos(videos)]
    chosen, notes = choose_measures(of_measures, wanted, infos)
    rates = sorted({info.fps for _, info in infos if info.fps is not None})
    stated = ", ".join(f"{rate:g}" for rate in rates) or "an unknown number of"
    notes.append(f"steps and gaps are in frames, at {stated} frames per second")
    return measure_sides(sides, chosen, reader, summarize, about, notes)
