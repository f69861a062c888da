"""Any number of videos to features, in the memory of a few batches: read ahead, embed, cache, report, resume.

A video is decoded once for all that is asked of it: clips of several protocols, each for its own network, and measures
of its frames.
"""

import hashlib
import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, NoReturn, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8

from metrics.evaluation.batches import BatchEmbedder, ReadClip, Report, Tally, ready_of, stack
from metrics.evaluation.cache import Cache, cache_key, hash_of_makers
from metrics.evaluation.cautions import Look
from metrics.evaluation.read_ahead import read_ahead
from metrics.networks.features import FeatureNetwork, Features, digest_of
from metrics.videos.clips import Clip, Fault, hash_clips
from metrics.videos.read import DECODER, Span, Video
from metrics.videos.stream import block_spans

Frames = UInt8[np.ndarray, "T H W C"]
Step = Callable[[], None]  # what is left for the thread of the networks
DEPTH = 4  # blocks of one video that wait, where all frames are wanted


class SideFeatures(NamedTuple):
    """The features of one side's clips, in their order; clips that could not be read have no row."""

    features: Features
    source: Int[np.ndarray, " N"]  # number of the video of each row
    clips: list[Clip]
    faults: list[Fault]
    contents: list[str]  # for each row, a hash of the file and of the clip's position in it, or of its frames
    looks: list[Look]  # of each row
    kept: int  # rows taken from the cache


@dataclass(frozen=True)
class ClipWork:
    """Clips that one network embeds, and what is done to their frames before."""

    clips: Sequence[Clip]
    network: FeatureNetwork
    recipe: Mapping[str, object] | None = None  # names all that is done to frames: part of the cache's key
    prepare: Callable[[Frames], Frames] | None = None  # of a decoded clip, before the network sees it
    batch_size: int = 16

    @property
    def key(self) -> str:
        """Equal for works that compute the same."""
        return json.dumps([self.recipe, hash_clips(self.clips), self.batch_size], sort_keys=True)

    def places(self) -> list[int]:
        """For each clip its place in the order of work: by video, then by the frame that completes it."""
        key = [(clip.video, clip.start + (clip.frames - 1) * clip.stride, clip.start) for clip in self.clips]
        places = [0] * len(key)
        for place, number in enumerate(sorted(range(len(key)), key=key.__getitem__)):
            places[number] = place
        return places

    def share(self, number: int, shares: int) -> "ClipWork":
        """One of so many parts, each of whole batches, that together have the clips of all."""
        places, batches = self.places(), -(-len(self.clips) // self.batch_size)
        first, last = (batches * k // shares * self.batch_size for k in (number, number + 1))
        clips = [clip for clip, place in zip(self.clips, places, strict=True) if first <= place < last]
        return replace(self, clips=clips)


@runtime_checkable
class FrameWork(Protocol):
    """What takes the frames of one video as they go by."""

    @property
    def most(self) -> int | None:
        """The first frames that it wants; None = all; 0 = none."""
        ...

    def take(self, frames: Frames) -> None:
        """The next block of frames."""
        ...

    def finish(self) -> object:
        """All frames were there."""
        ...


def embed_clips(
    clips: Sequence[Clip],
    videos: Mapping[str, Video],
    network: FeatureNetwork,
    *,
    recipe: Mapping[str, object] | None = None,  # names all that is done to frames: part of the cache's key
    prepare: Callable[[Frames], Frames] | None = None,  # of a decoded clip, before the network sees it
    batch_size: int = 16,
    cache: Cache | None = None,
    report: Report | None = None,
    readers: int = 2,
) -> SideFeatures:
    """Features of clips of video files, arrays or folders of frames, as `pass_over` makes them.

    Raises:
        ValueError: as `pass_over`; or not one clip that can be read.
    """
    work = ClipWork(clips, network, recipe, prepare, batch_size)
    return embed_work(work, videos, cache=cache, report=report, readers=readers)


def embed_work(
    work: ClipWork,
    videos: Mapping[str, Video],
    *,
    cache: Cache | None = None,
    report: Report | None = None,
    readers: int = 2,
) -> SideFeatures:
    """`embed_clips`, of a work.

    Raises:
        ValueError: as `embed_clips`.
    """
    embedder = pass_over([work], videos, cache=cache, report=report, readers=readers)[0]
    return _embedded(work, embedder)


def pass_over(
    works: Sequence[ClipWork],
    videos: Mapping[str, Video],
    *,
    of_frames: Callable[[Video], FrameWork | None] | None = None,  # what takes all frames of a video, in blocks
    cache: Cache | None = None,
    report: Report | None = None,
    readers: int = 2,
) -> list[BatchEmbedder]:
    """Embed the clips of every work, each video decoded once for all of them.

    Clips are read, and resized where the network leaves that to others (`PreparingNetwork`), by threads of their own,
    and at most some three batches of them are in memory, however many there are. With a cache, features that are there
    are not computed again and a file is not even decoded; network and weights belong to the key, whatever the recipe
    says. Clips that cannot be read are faults of their embedder; a video that `of_frames` cannot take is left to
    whoever measures it next.

    Raises:
        ValueError: what a network raises, as for videos that are too short. Or a cache for a network that names no
            digest of its weights.
    """
    tally = Tally(sum(len(work.clips) for work in works) + (len(videos) if of_frames is not None else 0), report)
    embedders = [BatchEmbedder(work.network, work.batch_size, cache, tally) for work in works]
    wanted: dict[str, list[_Wanted]] = {name: [] for name in videos} if of_frames is not None else {}
    for work, embedder in zip(works, embedders, strict=True):
        recipe, ready = _key_recipe(work.network, work.recipe, cache), ready_of(work.network)
        for (number, clip), place in zip(enumerate(work.clips), work.places(), strict=True):
            of_clip = _Wanted(clip, recipe, work.prepare, ready, partial(embedder.take, place, number))
            wanted.setdefault(clip.video, []).append(of_clip)

    def steps(name: str) -> Iterator[Step]:
        frame_work = None
        if of_frames is not None:
            with suppress(OSError, ValueError):
                frame_work = of_frames(videos[name])
            frame_work = None if frame_work is None else _Attempt(frame_work)
        yield from _steps_of_video(videos[name], wanted[name], frame_work, cache)
        if of_frames is not None:
            yield partial(tally.add, 1)

    room = 2 * max((work.batch_size for work in works), default=1)
    depth, least = (room, 1) if of_frames is None else (DEPTH, room // 2)
    for step in read_ahead(
        sorted(wanted),
        steps,
        weight=lambda name: max(least, len(wanted[name])),
        room=room,
        depth=depth,
        readers=readers,
    ):
        step()
    for embedder in embedders:
        embedder.finish()
    tally.notify()
    return embedders


class _Attempt:
    """A frame work that gives up where it cannot go on."""

    def __init__(self, work: FrameWork) -> None:
        self.work, self.most, self.over = work, work.most, False

    def take(self, frames: Frames) -> None:
        try:
            if not self.over:
                self.work.take(frames)
        except ValueError:
            self.over = True

    def finish(self) -> None:
        with suppress(ValueError):
            if not self.over:
                self.work.finish()


class _Wanted(NamedTuple):
    """One clip of one work."""

    clip: Clip
    recipe: Mapping[str, object]
    prepare: Callable[[Frames], Frames] | None
    ready: Callable[[Frames], Any]
    take: Callable[[ReadClip | str], None]

    def read(self, video: Video, stamp: str | None, frames: Frames, cache: Cache | None) -> Step:
        """Make what the network takes of the decoded clip."""
        try:
            if video.fingerprint() != stamp:
                return partial(self.take, f"{video.path} changed while it was read: score again when it is whole")
            content = hash_frames(frames) if stamp is None else self.content(stamp)
            key, kept = self.known(content if stamp is None else f"{content} {DECODER}", cache)
            if stamp is None and kept is not None:
                return partial(self.take, ReadClip(None, content, key, kept[1], kept[0]))
            look = Look.of(frames)
            if self.prepare is not None:
                frames = self.prepare(frames)
        except (OSError, ValueError) as error:
            return partial(self.take, str(error))
        try:
            return partial(self.take, ReadClip(self.ready(frames), content, key, look))
        except Exception as error:
            return partial(_end, error)

    def content(self, stamp: str) -> str:
        """The hash of the file, and the clip's position in it."""
        return f"{stamp} {self.clip.start} {self.clip.frames} {self.clip.stride}"

    def known(self, content: str, cache: Cache | None) -> tuple[str, tuple[Features, Look] | None]:
        """The clip's key, and its features where the cache has them."""
        key = cache_key(content, self.recipe)
        return key, None if cache is None else cache.get(key)


def _steps_of_video(
    video: Video, wanted: Sequence[_Wanted], frame_work: FrameWork | None, cache: Cache | None
) -> Iterator[Step]:
    """Decode what the cache does not have; yields what is to be done with it, in another thread."""
    spans = list[Span]()
    missing = dict[int, _Wanted]()
    whole = frame_work is not None and frame_work.most != 0
    try:
        stamp = video.fingerprint()
        for number, each in enumerate(wanted):
            if stamp is not None:
                content = each.content(stamp)
                key, kept = each.known(f"{content} {DECODER}", cache)
                if kept is not None:
                    yield partial(each.take, ReadClip(None, content, key, kept[1], kept[0]))
                    continue
            missing[number] = each
            spans.append(Span(each.clip.start, each.clip.frames, each.clip.stride, tag=number))
        blocks = block_spans(most=frame_work.most) if frame_work is not None and whole else iter(())
        ordered = sorted(spans, key=lambda span: (span.last, span.start))
        merged = heapq.merge(sorted(ordered, key=lambda span: span.start), blocks, key=lambda span: span.start)
        for span, frames in video.spans(merged, whole=whole) if whole or spans else ():
            if span.tag is None:
                assert frame_work is not None
                if isinstance(frames, str):
                    raise ValueError(frames)
                yield partial(frame_work.take, frames)
            else:
                each = missing.pop(span.tag)
                yield partial(each.take, frames) if isinstance(frames, str) else each.read(video, stamp, frames, cache)
        reason = ""
        if frame_work is not None:
            yield frame_work.finish
    except (OSError, ValueError) as error:  # of this video alone; what the network says of it ends the run
        reason = str(error)
    for each in missing.values():
        clip = each.clip
        yield partial(each.take, reason or video.too_few(0, clip.start, clip.frames, clip.stride))


def _end(error: Exception) -> NoReturn:
    raise error


def _embedded(work: ClipWork, embedder: BatchEmbedder) -> SideFeatures:
    rows = embedder.finish()
    clips = [work.clips[row.clip] for row in rows]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(clip.video for clip in clips))}
    return SideFeatures(
        stack(rows),
        np.array([numbers[clip.video] for clip in clips], dtype=np.int64),
        clips,
        [Fault(work.clips[i].video, reason) for i, reason in sorted(embedder.faults)],
        [row.content for row in rows],
        [row.look for row in rows],
        embedder.kept,
    )


def embed_arrays(
    arrays: Iterable[UInt8[np.ndarray, "*N T H W C"]],
    network: FeatureNetwork,
    *,
    frames: int | None = None,  # the first frames of each video; None = all
    recipe: Mapping[str, object] | None = None,
    batch_size: int = 16,
    cache: Cache | None = None,
    report: Report | None = None,
) -> SideFeatures:
    """Features of videos from any iterator, one by one (T H W C) or in batches (N T H W C).

    The iterator is called in the caller's thread, two batches ahead; hashing and resizing run while the network is
    busy. With a cache, network and weights belong to the key, whatever the recipe says.

    Raises:
        ValueError: what the network raises, no video at all, videos shorter than `frames`, or a cache for a network
            that names no digest of its weights.
    """
    key_recipe = _key_recipe(network, recipe, cache)
    ready, embedder = ready_of(network), BatchEmbedder(network, batch_size, cache, Tally(None, report))
    clips: list[Clip] = []

    def cut() -> Iterator[Frames]:
        for array in arrays:
            for video in array[None] if array.ndim == 4 else array:
                if frames is not None and len(video) < frames:
                    raise ValueError(f"video {len(clips)} has {len(video)} frames, {frames} were requested")
                clips.append(Clip(f"#{len(clips)}", 0, frames or len(video)))
                yield np.ascontiguousarray(video[:frames])

    def fetch(video: Frames) -> Iterator[ReadClip]:
        content = hash_frames(video)
        key = cache_key(content, key_recipe)
        features, look = (None if cache is None else cache.get(key)) or (None, Look.of(video))
        yield ReadClip(ready(video) if features is None else None, content, key, look, features)

    room = batch_size * 2
    stream = read_ahead(cut(), fetch, weight=lambda video: 1, room=room, depth=1, readers=1)
    for number, clip in enumerate(stream):
        embedder.take(number, number, clip)
    rows = embedder.finish()
    embedder.tally.notify()
    contents, looks = [row.content for row in rows], [row.look for row in rows]
    return SideFeatures(stack(rows), np.arange(len(rows)), clips, [], contents, looks, embedder.kept)


def hash_frames(frames: Frames) -> str:
    """sha256 of a decoded clip: its shape and its bytes."""
    return hashlib.sha256(repr(frames.shape).encode() + np.ascontiguousarray(frames).tobytes()).hexdigest()


def _key_recipe(
    network: FeatureNetwork, recipe: Mapping[str, object] | None, cache: Cache | None
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
