"""`python -m bench weights`: the files that the full-size runs need, and whether they are here and right."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import tyro
from tabulate import tabulate

from baselines.models.checkpoints import CHECKPOINTS, revision_here
from bench.results.option_types import ExistingFolder, TargetFile
from bench.results.records import write_atomic
from bench.ucf101.downloads import DATA_SET, REMOTE_FILES, examine, examine_data_set, fetch, named

WRONG = 2  # exit code: a file that is here is not what was published


def weights(
    weights: Path = Path("assets"),
    fetch_: Annotated[tuple[str, ...], tyro.conf.arg(name="fetch", metavar="NAME"), tyro.conf.UseAppendAction] = (),
    sd_revision: str | None = None,
    ucf101: ExistingFolder | None = None,
    json_: Annotated[TargetFile | None, tyro.conf.arg(name="json")] = None,
) -> int:
    """List the files that the full-size UCF-101 run needs: purpose, source, license, and if it is here and intact.

    Also list the published checkpoints of the other models, and which revision of each is on this machine.

    Nothing uses the network without --fetch. Exit codes: 0 nothing here is wrong (files may be missing), 2 a file or
    the data set is not what was published, 3 wrong usage, or a download failed.

    Args:
        weights: Folder of the files.
        fetch_: Download this file (a path of the list, a folder of it, or all) and verify it; may be given several
            times. An interrupted download is resumed.
        sd_revision: Commit (40 digits) of the copy of Stable Diffusion to fetch its files from; its page shows it.
        ucf101: The unpacked data set, compared with its official lists.
        json_: Also write the list to this file.
    """
    if weights.exists() and not weights.is_dir():
        raise ValueError(f"--weights {weights}: this is no folder")
    failed = []
    for remote in named(fetch_, REMOTE_FILES):
        try:
            local = fetch(remote, weights, sd_revision)
            print(f"{weights / remote.file}: {local.state}, {_bytes(local.size)}", flush=True)
        except ValueError as error:
            failed.append(str(error))
    every = [*examine(weights, REMOTE_FILES), examine_data_set(ucf101)]
    states = [
        (each.needed.file, each.state, _bytes(each.size or each.needed.size), each.needed.serves, each.remark)
        for each in every
    ]
    print(tabulate(states, headers=("file", "", "size", "serves", "remark"), disable_numparse=True) + "\n")
    about = [(each.file, each.what, each.page, each.licence) for each in (*REMOTE_FILES, DATA_SET)]
    print(tabulate(about, headers=("file", "what it is", "published at", "license"), disable_numparse=True))
    models = [
        (each.id, each.pipeline, f"{each.parameters:g} G", each.license, revision_here(each) or "missing")
        for each in CHECKPOINTS
    ]
    print("\nModels for `--suite lengths --model ID --revision COMMIT`; --fetch of `bench run` downloads them:\n")
    print(tabulate(models, headers=("id", "pipeline", "parameters", "license", "revision here"), disable_numparse=True))
    if json_ is not None:
        rows = [
            {**asdict(each.needed), "state": each.state, "remark": each.remark, "here": each.size} for each in every
        ]
        write_atomic(json_, json.dumps(rows, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    wrong = [each for each in every if each.state == "wrong"]
    missing = [each for each in every if each.state == "missing"]
    print(f"\n{len(every) - len(wrong) - len(missing)} here, {len(missing)} missing, {len(wrong)} wrong; in {weights}")
    if failed:
        raise ValueError("; ".join(failed))
    return WRONG if wrong else 0


def _bytes(size: int | None) -> str:
    if size is None:
        return "unknown"
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size} bytes"
