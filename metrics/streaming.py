"""Any number of videos to features in the memory of a few batches: read ahead, embed, keep, tell, go on when killed."""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from metrics.cache import FeatureCache, cache_key
from metrics.clips import Clip, Fault
from metrics.features import FeatureNetwork, Features
from metrics.progress import Progress
from metrics.read import DECODER, Video

Frames = UInt8[np.ndarray, "T H W C"]


class Embedded(NamedTuple):
    """What became of the clips of one side, in their order; clips that could not be read are missing from all rows."""

    features: Features
    source: Int[np.ndarray, " N"]  # number of the video of each row
    clips: list[Clip]
    faults: list[Fault]
    contents: list[str]  # per row, a hash of the file and the place the clip was cut from, or of its frames
    kept: int  # rows taken from the cache


class _Read(NamedTuple):
    frames: Frames | None  # None where the cache has the features
    content: str
    key: str
    found: Features | None


class _Row(NamedTuple):
    clip: int  # its number
    features: Features  # a batch of one
    content: str


def embed_clips(
    clips: Sequence[Clip],
    videos: Mapping[str, Video],
    network: FeatureNetwork,
    *,
    recipe: Mapping[
        str, object
    ],  # names the network, its weights and all that is done to frames: part of the cache's key
    prepare: Callable[[Frames], Frames] | None = None,  # of a decoded clip, before the network sees it
    batch_size: int = 16,
    cache: FeatureCache | None = None,
    report: Callable[[Progress], None] | None = None,
    readers: int = 2,
) -> Embedded:
    """Features of clips of films, arrays or folders of frames.

    At most three batches of decoded clips are in memory, however many clips there are. Clips of different sizes
    never share a batch. With a cache, features that are there are not computed again and a film is not even decoded.

    Raises:
        ValueError: what the network raises, as for videos that are too short; not what reading a video raises, which is
            returned as a fault.
    """

    def fetch(clip: Clip) -> _Read:
        video = videos[clip.video]
        stamp, frames = video.fingerprint(), None
        if stamp is None:
            frames = video.read(clip.start, clip.frames, clip.stride)
            content = key = hash_frames(frames)
        else:
            content = f"{stamp} {clip.start} {clip.frames} {clip.stride}"
            key = f"{content} {DECODER}"
        key = cache_key(key, recipe)
        found = None if cache is None else cache.get(key)
        if found is not None:
            return _Read(None, content, key, found)
        if frames is None:
            frames = video.read(clip.start, clip.frames, clip.stride)
        return _Read(frames if prepare is None else prepare(frames), content, key, None)

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
    """Features of videos that come one by one, T H W C, or in batches, N T H W C, from any iterator.

    Raises:
        ValueError: what the network raises, no video at all, or videos shorter than `frames`.
    """
    clips: list[Clip] = []

    def stream() -> Iterator[tuple[int, _Read | str]]:
        for array in arrays:
            for video in array[None] if array.ndim == 4 else array:
                if frames is not None and len(video) < frames:
                    raise ValueError(f"video {len(clips)} has {len(video)} frames, {frames} were asked for")
                clips.append(Clip(f"#{len(clips)}", 0, frames or len(video)))
                cut = np.ascontiguousarray(video[:frames])
                content = hash_frames(cut)
                key = cache_key(content, recipe or {})
                yield len(clips) - 1, _Read(cut, content, key, None if cache is None else cache.get(key))

    rows, _, kept = _embed(stream(), None, network, batch_size, cache, report)
    return Embedded(_stack(rows), np.arange(len(rows)), clips, [], [row.content for row in rows], kept)


def hash_frames(frames: Frames) -> str:
    """sha256 of a decoded clip: its shape and its bytes."""
    return hashlib.sha256(repr(frames.shape).encode() + np.ascontiguousarray(frames).tobytes()).hexdigest()


def _ahead(
    pool: ThreadPoolExecutor, fetch: Callable[[Clip], _Read], clips: Sequence[Clip], ahead: int
) -> Iterator[tuple[int, _Read | str]]:
    """Clips in order, read by the pool at most `ahead` before they are asked for; what cannot be read as its reason."""
    waiting: deque[Future[_Read]] = deque()
    upcoming = iter(clips)
    for i in range(len(clips)):
        while len(waiting) < ahead and (clip := next(upcoming, None)) is not None:
            waiting.append(pool.submit(fetch, clip))
        try:
            yield i, waiting.popleft().result()
        except ValueError as error:
            yield i, str(error)


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
    batch: list[tuple[int, _Read, Frames]] = []

    def flush() -> None:
        if batch:
            features = network.embed(np.stack([frames for _, _, frames in batch]))
            if cache is not None:
                cache.put([read.key for _, read, _ in batch], features)
            rows.extend(_Row(number, _one(features, i), read.content) for i, (number, read, _) in enumerate(batch))
            batch.clear()
            tell()

    def tell() -> None:
        if report is not None:
            report(Progress(len(rows) + len(faults), total, kept + len(faults), time.monotonic() - started))

    for number, read in stream:
        if isinstance(read, str):
            faults.append((number, read))
        elif read.found is not None:
            rows.append(_Row(number, read.found, read.content))
            kept += 1
            tell()
        else:
            assert read.frames is not None
            if batch and batch[0][2].shape != read.frames.shape:
                flush()
            batch.append((number, read, read.frames))
            if len(batch) == batch_size:
                flush()
    flush()
    tell()
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
