"""CPU seconds of `prepare` beside decoding and encoding alone: python -m tests.vidrd.data.ingest CLIPS FOLDER."""

import sys
from itertools import islice
from pathlib import Path
from time import thread_time

from vidrd.data.adapters import Where, records
from vidrd.data.media import decode, encode_mp4, probe
from vidrd.data.prepare import describe, prepare
from vidrd.data.scenes import Cutting
from vidrd.data.units import Plan

COUNT = 40  # films


def plan(clips, **choices):
    cutting = Cutting(None, min_frames=16, max_frames=10_000)
    return Plan("ucf101", Where(clips), cutting, duplicates=11, unit=COUNT, **choices)


def main(clips: Path, folder: Path) -> None:
    found = list(islice(records("ucf101", Where(clips)), COUNT))
    for turn in range(3):  # the first one imports libraries, as the first unit of a process does
        began = thread_time()
        frames = 0
        for record in found:
            held = list(decode(Path(record.uri)))
            frames += len(held)
            encode_mp4(held, probe(Path(record.uri)).fps)
        alone = thread_time() - began
        began = thread_time()
        summary = prepare(plan(clips), folder / str(turn), say=lambda line: None)
        whole = thread_time() - began
        print(f"{len(found)} films, {frames} frames; CPU seconds: decoding and x264 alone {alone:.2f},")
        print(f"prepare {whole:.2f}, ratio {alone / whole:.3f}\n{describe(summary)}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
