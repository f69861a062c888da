"""CPU seconds of `prepare`, and of decoding and encoding alone: python -m tests.vidrd.data.ingest CLIPS FOLDER.

Both process the same few videos in turns, now one first, now the other: the speed of a shared machine changes within
seconds.
"""

import sys
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from time import thread_time

from vidrd.data.adapters import Where, records
from vidrd.data.media import decode, encode_mp4, probe
from vidrd.data.numbering import number_records
from vidrd.data.prepare import describe, prepare
from vidrd.data.shard_task import PreparePlan, run_shard_task
from vidrd.data.shots import CutSettings

COUNT = 40  # videos
TURN = 4  # of them


def plan(clips, **choices):
    cutting = CutSettings(None, min_frames=16, max_frames=10_000)
    return PreparePlan("ucf101", Where(clips), cutting, duplicates=11, unit=COUNT, **choices)


def alone(sources) -> int:
    """Decode and encode; the number of frames."""
    frames = 0
    for record in sources:
        held = list(decode(Path(record.uri)))
        frames += len(held)
        encode_mp4(held, probe(Path(record.uri)).fps)
    return frames


def spent(work, *given):
    began = thread_time()
    result = work(*given)
    return thread_time() - began, result


def main(clips: Path, folder: Path) -> None:
    asked = replace(plan(clips), unit=TURN)
    for turn in range(3):  # the first one imports libraries, as the first unit of a process does
        out, least, whole, frames = folder / str(turn), 0.0, 0.0, 0
        for part in ("shards", "units"):
            (out / part).mkdir(parents=True)
        for unit in number_records(out, islice(records("ucf101", Where(clips)), COUNT), TURN)[0]:
            for first in (turn + unit.number, turn + unit.number + 1):
                if first % 2:
                    seconds, count = spent(alone, unit.records)
                    least, frames = least + seconds, frames + count
                else:
                    whole += spent(run_shard_task, asked, out, unit)[0]
        seconds, summary = spent(partial(prepare, say=lambda line: None), asked, out)  # what is left: the index
        whole += seconds
        print(f"{COUNT} videos, {frames} frames; CPU seconds: decoding and x264 alone {least:.2f},")
        print(f"prepare {whole:.2f}, ratio {least / whole:.3f}", flush=True)
        print("\n".join(describe(summary).splitlines()[:-1]), flush=True)  # but for its seconds: they are the index's


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
