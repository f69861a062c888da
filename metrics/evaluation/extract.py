"""Any number of videos to features, in the memory of a few batches: read ahead, embed, cache, report, resume."""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Int, UInt8

from metrics.evaluation.cache import FeatureCache, cache_key, hash_of_makers
from metrics.evaluation.cautions import Look
from metrics.evaluation.progress import Progress
from metrics.networks.features import FeatureNetwork, Features, PreparingNetwork, digest_of
from metrics.videos.clips import Clip, Fault
from metrics.videos.read import DECODER, Video

Frames = UInt8[np.ndarray, "T H W C"]
Item = TypeVar("Item")


class Embedded(NamedTuple):
    """The features of one side's clips, in their order; clips that could not be read have no row."""

    features: Features
    source: Int[np.ndarray, " N"]  # number of the video of each row
    clips: list[Clip]
    faults: list[Fault]
    contents: list[str]  # for each row, a hash of the file and of the clip's position in it, or of its frames
    looks: list[Look]  # of each row
    kept: int  # rows taken from the cache


class _Read(NamedTuple):
    ready: Any  # what the network takes of the clip; None where the cache has the features
    content: str
    key: str
    look: Look
    features: Features | None  # from the cache


class _Row(NamedTuple):
    clip: int  # its number
    features: Features  # a batch of one
    content: str
    look: Look


def embed_clips(
    clips: Sequence[Clip],
    videos: Mapping[str, Video],
    network: FeatureNetwork,
    *,
    recipe: Mapping[str, object] | None = None,  # names all that is done to frames: part of the cache's key
    prepare: Callable[[Frames], Frames] | None = None,  # of a decoded clip, before the network sees it
    batch_size: int = 16,
    cache: FeatureCache | None = None,
    report: Callable[[Progress], None] | None = None,
    readers: int = 2,
) -> Embedded:
    """Features of clips of video files, arrays or folders of frames.

    Clips are read, and resized where the network leaves that to others (`PreparingNetwork`), by threads of their own.
    At most three batches of them are in memory, however many clips there are. Clips of different sizes never share a
    batch. With a cache, features that are there are not computed again and a file is not even decoded; network and
    weights belong to the key, whatever the recipe says.

    Raises:
        ValueError: what the network raises, as for videos that are too short; not what reading a video raises, which is
            returned as a fault. Or a cache for a network that names no digest of its weights.
    """
    key_recipe = _key_recipe(network, recipe, cache)
    ready = _ready(network)

    def fetch(clip: Clip) -> _Read | str:
        try:
            video = videos[clip.video]
            stamp, frames = video.fingerprint(), None
            if stamp is None:
                frames = video.read(clip.start, clip.frames, clip.stride)
                content = key = hash_frames(frames)
            else:
                content = f"{stamp} {clip.start} {clip.frames} {clip.stride}"
                key = f"{content} {DECODER}"
            key = cache_key(key, key_recipe)
            kept = None if cache is None else cache.get(key)
            if kept is not None:
                return _Read(None, content, key, kept[1], kept[0])
            if frames is None:
                frames = video.read(clip.start, clip.frames, clip.stride)
                if video.fingerprint() != stamp:
                    raise ValueError(f"{video.path} changed while it was read: score again when it is whole")
            look = Look.of(frames)
            if prepare is not None:
                frames = prepare(frames)
        except (OSError, ValueError) as error:  # of this clip alone; what the network says of it ends the run
            return str(error)
        return _Read(ready(frames), content, key, look, None)

    with ThreadPoolExecutor(readers) as pool:
        stream = _ahead(pool, fetch, clips, batch_size * 2)
        rows, faults, kept = _embed(stream, len(clips), network, batch_size, cache, report)
    done = [clips[row.clip] for row in rows]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(clip.video for clip in done))}
    return Embedded(
        _stack(rows),
        np.array([numbers[clip.video] for clip in done], dtype=np.int64),
        done,
        [Fault(clips[i].video, reason) for i, reason in faults],
        [row.content for row in rows],
        [row.look for row in rows],
        kept,
    )


def embed_arrays(
    arrays: Iterable[UInt8[np.ndarray, "*N T H W C"]],
    network: FeatureNetwork,
    *,
    frames: int | None = None,  # the first frames of each video; None = all
    recipe: Mapping[str, object] | None = None,
    batch_size: int = 16,
    cache: FeatureCache | None = None,
    report: Callable[[Progress], None] | None = None,
) -> Embedded:
    """Features of videos from any iterator, one by one (T H W C) or in batches (N T H W C).

    The iterator is called in the caller's thread, two batches ahead; hashing and resizing run while the network is
    busy. With a cache, network and weights belong to the key, whatever the recipe says.

    Raises:
        ValueError: what the network raises, no video at all, videos shorter than `frames`, or a cache for a network
            that names no digest of its weights.
    """
    key_recipe = _key_recipe(network, recipe, cache)
    ready = _ready(network)
    clips: list[Clip] = []

    def cut() -> Iterator[Frames]:
        for array in arrays:
            for video in array[None] if array.ndim == 4 else array:
                if frames is not None and len(video) < frames:
                    raise ValueError(f"video {len(clips)} has {len(video)} frames, {frames} were requested")
                clips.append(Clip(f"#{len(clips)}", 0, frames or len(video)))
                yield np.ascontiguousarray(video[:frames])

    def fetch(video: Frames) -> _Read | str:
        content = hash_frames(video)
        key = cache_key(content, key_recipe)
        features, look = (None if cache is None else cache.get(key)) or (None, Look.of(video))
        return _Read(ready(video) if features is None else None, content, key, look, features)

    with ThreadPoolExecutor(1) as pool:
        stream = _ahead(pool, fetch, cut(), batch_size * 2)
        rows, _, kept = _embed(stream, None, network, batch_size, cache, report)
    contents, looks = [row.content for row in rows], [row.look for row in rows]
    return Embedded(_stack(rows), np.arange(len(rows)), clips, [], contents, looks, kept)


def hash_frames(frames: Frames) -> str:
    """sha256 of a decoded clip: its shape and its bytes."""
    return hashlib.sha256(repr(frames.shape).encode() + np.ascontiguousarray(frames).tobytes()).hexdigest()


def _key_recipe(
    network: FeatureNetwork, recipe: Mapping[str, object] | None, cache: FeatureCache | None
) -> Mapping[str, object]:
    """The recipe with network, weights and code in it, so that a cache never returns what would not be made now."""
    key_recipe: dict[str, object] = {"network": network.name, "code": hash_of_makers(), **(recipe or {})}
    if cache is not None and "weights" not in key_recipe:
        key_recipe["weights"] = digest_of(network)
        if key_recipe["weights"] is None:
            raise ValueError(
                f"{network.name} names no digest of its weights, without which features cannot be cached: give it a "
                "`digest`, a recipe with `weights`, or no cache"
            )
    return key_recipe


def _ready(network: FeatureNetwork) -> Callable[[Frames], Any]:
    return network.prepare if isinstance(network, PreparingNetwork) else lambda frames: frames


def _ahead(
    pool: Executor, fetch: Callable[[Item], _Read | str], items: Iterable[Item], ahead: int
) -> Iterator[tuple[int, _Read | str]]:
    """Clips in order, fetched by the pool at most `ahead` before they are asked for; faults as their reason."""
    waiting: deque[Future[_Read | str]] = deque()
    upcoming = iter(items)
    number = 0
    while True:
        while len(waiting) < ahead and (item := next(upcoming, None)) is not None:
            waiting.append(pool.submit(fetch, item))
        if not waiting:
            return
        yield number, waiting.popleft().result()
        number += 1


def _embed(
    stream: Iterable[tuple[int, _Read | str]],
    total: int | None,
    network: FeatureNetwork,
    batch_size: int,
    cache: FeatureCache | None,
    report: Callable[[Progress], None] | None,
) -> tuple[list[_Row], list[tuple[int, str]], int]:
    """Rows by number of their clip, in order; faults; and how many rows the cache had."""
    started, kept = time.monotonic(), 0
    rows: list[_Row] = []
    faults: list[tuple[int, str]] = []
    batch: list[tuple[int, _Read]] = []

    def flush() -> None:
        if batch:
            clips = [read.ready for _, read in batch]
            if isinstance(network, PreparingNetwork):
                features = network.embed_prepared(clips)
            else:
                features = network.embed(np.stack(clips))
            if cache is not None:
                cache.put([read.key for _, read in batch], features, [read.look for _, read in batch])
            rows.extend(
                _Row(number, _one(features, i), read.content, read.look) for i, (number, read) in enumerate(batch)
            )
            batch.clear()
            notify()

    def notify() -> None:
        if report is not None:
            report(Progress(len(rows) + len(faults), total, kept + len(faults), time.monotonic() - started))

    for number, read in stream:
        if isinstance(read, str):
            faults.append((number, read))
        elif read.features is not None:
            rows.append(_Row(number, read.features, read.content, read.look))
            kept += 1
            notify()
        else:
            if batch and batch[0][1].ready.shape != read.ready.shape:
                flush()
            batch.append((number, read))
            if len(batch) == batch_size:
                flush()
    flush()
    notify()
    return sorted(rows, key=lambda row: row.clip), faults, kept


def _one(features: Features, i: int) -> Features:
    return Features(
        features.embedding[i : i + 1].copy(),
        {head: values[i : i + 1].copy() for head, values in features.logits.items()},
    )


def _stack(rows: Sequence[_Row]) -> Features:
    if not rows:
        raise ValueError("not one clip could be read: give videos that can be decoded and are long enough")
    return Features(
        np.concatenate([row.features.embedding for row in rows]),
        {head: np.concatenate([row.features.logits[head] for row in rows]) for head in rows[0].features.logits},
    )
