"""The verbs that measure folders video by video: `vbench`, with its export and import, `alignment` and `minutes`."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from metrics.cli_options import Alignment, FolderOptions, Minutes, Vbench, real_and_fake
from metrics.evaluation.cache import default_path
from metrics.evaluation.cautions import caution_of_strays
from metrics.evaluation.measure import FolderReader, FolderScore, Measure, SideValues, choose_measures, measure_sides
from metrics.evaluation.progress import Progress
from metrics.evaluation.result import Result
from metrics.networks.device import resolve_device
from metrics.networks.folder import WeightsFolder
from metrics.networks.vision_files import TEXT_SIZES
from metrics.score import Score
from metrics.set_verbs import open_cache
from metrics.temporal import score_minutes
from metrics.text import alignment
from metrics.text.clip_score import clip_ratio
from metrics.text.prompts import Prompt, count_cut, hash_prompts, prompt_of_name, read_prompts
from metrics.vbench.bridge import export_videos, import_results
from metrics.vbench.dimensions import Setting
from metrics.vbench.folder import prepare_folders
from metrics.videos.read import list_videos
from metrics.videos.vision import ImagingMode

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
    if isinstance(verb, Vbench) and (verb.full_info is not None or verb.export is not None):
        real_and_fake(verb.videos)
        return _export(verb)
    imaging = verb.imaging if isinstance(verb, Vbench) else "longer"
    with ExitStack() as stack:
        networks = weights_folder(weights, verb.reading, imaging)
        return prepare_folder(verb, networks, _reader(verb.reading, report, stack)).finish()


def prepare_folder(verb: Vbench | Alignment | Minutes, networks: WeightsFolder, reader: FolderReader) -> FolderScore:
    """What the verb measures, ready to run.

    Raises:
        ValueError: no or too many sets, videos that cannot be read, or a measure that is asked for and cannot be taken.
    """
    real, fake = real_and_fake(verb.videos)
    sources = {"fake": fake} if real is None else {"real": real, "fake": fake}
    if isinstance(verb, Vbench):
        prepared = prepare_folders(sources, _setting(verb, networks), wanted=verb.dimensions, reader=reader)
    elif isinstance(verb, Alignment):
        prepared = _alignment(verb, networks, sources, reader)
    else:
        prepared = _minutes(verb, networks, sources, reader)
    strays = list(filter(None, map(caution_of_strays, sources.values())))

    def finish() -> Result:
        result = prepared.finish().named()
        return replace(result, notes=[*result.notes, *strays])

    return replace(prepared, finish=finish)


def weights_folder(weights: Path | None, reading: FolderOptions, imaging: ImagingMode = "longer") -> WeightsFolder:
    """The networks of a folder, as the options run them."""
    return WeightsFolder(weights, device=resolve_device(reading.device), batch=reading.batch, imaging=imaging)


def _reader(reading: FolderOptions, report: Report | None, stack: ExitStack) -> FolderReader:
    cache = None if reading.fresh else stack.enter_context(open_cache(reading.cache or default_path()))
    return FolderReader(reading.n, reading.allow_gaps, cache, report)


def _export(verb: Vbench) -> Result:
    if verb.export is None:
        raise ValueError("--full-info numbers the prompts of --export: give both or neither")
    videos = list_videos(verb.videos[-1])[: verb.reading.n]
    return export_videos(videos, _prompts(verb), verb.export, verb.full_info)


def _setting(verb: Vbench, networks: WeightsFolder) -> Setting:
    if verb.compat is not None and verb.length == "long":
        raise ValueError("--compat repeats VBench's code for short videos, --length long another: give one")
    return Setting(networks, _prompts(verb), compat=verb.compat is not None, long=verb.length == "long")


def _prompts(verb: Vbench) -> dict[str, Prompt] | None:
    """From the file, or by VBench's rule from the names of files where that is asked for."""
    if verb.prompts is not None:
        return read_prompts(verb.prompts)
    if verb.compat is None:
        return None
    return {video.name: prompt_of_name(video.name) for source in verb.videos for video in list_videos(source)}


def _alignment(
    verb: Alignment, networks: WeightsFolder, sources: Mapping[str, Path], reader: FolderReader
) -> FolderScore:
    prompts = read_prompts(verb.prompts)
    about = {"protocol": f"clip-{verb.size}", "prompts_sha256": hash_prompts(prompts)}
    of_measures = alignment.loaders(networks, prompts, verb.size)
    prepared = _prepared(of_measures, verb.measures, sources, reader, alignment.scores_of, about)

    def finish() -> Result:
        result = prepared.finish()
        towers = {"clipsim": verb.size, "clipscore": verb.size, "viclip": "viclip"}  # that read prompts
        for tower in dict.fromkeys(towers[each.name] for each in prepared.measures if each.name in towers):
            length = TEXT_SIZES[tower]["length"]
            cut = count_cut(list(prompts.values()), networks.tokenizer, length)
            result.notes.append(f"{cut} of {len(prompts)} prompts have more than {length} tokens, and were cut there")
        if {"clipsim", "clipsim_real"} <= result.scores.keys():
            result.scores["clip_ratio"] = clip_ratio(result.scores["clipsim"], result.scores["clipsim_real"])
        return result

    return replace(prepared, finish=finish)


def _minutes(verb: Minutes, networks: WeightsFolder, sources: Mapping[str, Path], reader: FolderReader) -> FolderScore:
    prompts = None if verb.prompts is None else read_prompts(verb.prompts)
    hashed = None if prompts is None else hash_prompts(prompts)
    about = {"protocol": "minutes", "window": verb.window, "prompts_sha256": hashed}
    of_measures = score_minutes.loaders(networks, verb.window, prompts)
    return _prepared(of_measures, verb.measures, sources, reader, SideValues.means, about)


def _prepared(
    of_measures: Mapping[str, Callable[[], Measure]],
    wanted: Sequence[str],
    sources: Mapping[str, Path],
    reader: FolderReader,
    summarize: Callable[[SideValues], dict[str, Score]],
    about: Mapping[str, object],
) -> FolderScore:
    sides = {side: reader.videos(source) for side, source in sources.items()}
    infos = [info for videos in sides.values() for info in reader.infos(videos)]
    chosen, notes = choose_measures(of_measures, wanted, infos)
    rates = sorted({info.fps for _, info in infos if info.fps is not None})
    stated = ", ".join(f"{rate:g}" for rate in rates) or "an unknown number of"
    notes.append(f"steps and gaps are in frames, at {stated} frames per second")
    return FolderScore(sides, chosen, partial(measure_sides, sides, chosen, reader, summarize, about, notes))
