"""Whoever does the cells of a run, and whoever dies: the same cells, each once, on machines of one kind."""

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from toy_suite import SUITE, TOYS

from bench.commands.device_options import fitted, workers_of
from bench.harness import cell_pool
from bench.harness.cell_pool import HERE, CellJob, Workers, cores_of, waves
from bench.harness.cell_process import task_of
from bench.harness.identity import check_alike, identify
from bench.harness.runner import run
from bench.harness.suite_spec import override, plan
from bench.results.records import read
from bench.suites import SUITES

IDENTITY = identify()
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0, 1]
TOY_PATH = str(Path(__file__).parents[1])


def tasks(*assignments):
    suite = override(SUITE, assignments)
    return [task_of(item, suite) for item in plan(suite, IDENTITY.basis) if item.skip is None]


def job(folder, **changes):
    given = CellJob(IDENTITY, (), folder, 60, TOYS["toy"], on_gpu=False, began=time.time(), end=None)
    return replace(given, **changes)


def test_what_is_compared_comes_after_what_it_is_compared_with():
    several = tasks("how=fine", "size=1,2,3")
    real = next(task for task in several if task.reference is None)
    others = [task for task in several if task is not real]
    assert [list(wave) for wave in waves([*others, real])] == [[real], others]
    assert [list(wave) for wave in waves(others)] == [others]  # the reference was measured before
    chain = [task._replace(reference=before and before.item.cell.id) for task, before in zip(
        several, [None, *several[:-1]], strict=True)]  # fmt: skip
    assert list(waves(chain[::-1])) == [[task] for task in chain]


def test_a_worker_leaves_its_records_with_its_node_and_how_many_ran_beside_it(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", str(IDENTITY.machine["threads_variable"]))
    monkeypatch.setenv("MKL_NUM_THREADS", "")
    real, fine = tasks("how=fine", "size=1")
    worker = job(tmp_path, side_by_side=3)
    work = worker.open("cpu")
    assert not worker.is_done(real)
    work(real)
    (record,) = worker.records(real)
    assert worker.is_done(real)
    assert record.attempt.status == "ok"
    assert record.facts["side_by_side"] == "3"
    assert record.machine["node"] == os.uname().nodename
    assert record.cell.id == real.item.cell.id
    job(tmp_path, end=0.0).open("cpu")(fine)
    assert not worker.is_done(fine), "the time was up"
    worker.forget(real)
    assert not worker.is_done(real)


def test_a_machine_of_another_kind_is_refused():
    machine = {**IDENTITY.machine, "memory_bytes": int(IDENTITY.machine["memory_bytes"]) + 4096}
    check_alike(IDENTITY._replace(machine=machine), IDENTITY)
    other = IDENTITY._replace(
        machine={**IDENTITY.machine, "gpu": "NVIDIA A100"}, basis={**IDENTITY.basis, "machine": "0", "weights": "1"}
    )
    with pytest.raises(ValueError, match=r"machines of one kind: .* has gpu 'NVIDIA A100' and not .*, weights '1' and"):
        check_alike(other, IDENTITY)
    less = IDENTITY._replace(machine={**IDENTITY.machine, "memory_bytes": 2**20})
    with pytest.raises(ValueError, match="memory_bytes"):
        check_alike(less, IDENTITY)


def test_a_device_is_a_gpu_or_cores(monkeypatch):
    assert list(cores_of("cpu:4")) == [4]
    assert list(cores_of("cpu:4-6")) == [4, 5, 6]
    for name in ("cpu:", "cpu:a", "cpu:3-1"):
        with pytest.raises(ValueError, match="cpu:FIRST-LAST for these cores"):
            cores_of(name)
    monkeypatch.setenv(cell_pool.VISIBLE, "4,5")
    cell_pool.use("cuda:1")
    assert os.environ[cell_pool.VISIBLE] == "5"


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ("cpu:0,cpu:0", "different ones of one kind"),
        ("cpu:0,cuda:0", "different ones of one kind"),
        ("tpu:0", "different ones of one kind"),
        ("cpu:0-1,cpu:2", "as many cores, of its own"),
        ("cpu:0-1,cpu:1-2", "as many cores, of its own"),
        ("cpu:98765", "as many cores, of its own"),
    ],
)
def test_devices_that_cannot_be_are_refused(devices, message):
    with pytest.raises(ValueError, match=message):
        workers_of(devices, None, ray=False)


def test_devices_are_named_in_one_way():
    for threads, ray, other in ((None, True, "--ray"), (1, False, "--threads")):
        with pytest.raises(ValueError, match=f"--devices and {other} both say where cells run"):
            workers_of("all", threads, ray=ray)
    assert workers_of(None, None, ray=True) == Workers(ray=True)


def test_cells_of_times_run_alone_on_a_machine():
    chosen = plan(override(SUITE, ["how=fine"]), {})
    pair = Workers(("cpu", "cpu"))
    assert fitted(pair, SUITE, chosen) == pair
    assert fitted(pair, replace(SUITE, alone=True), chosen) == Workers(alone=True)
    assert fitted(Workers(ray=True), replace(SUITE, alone=True), chosen) == Workers(ray=True, alone=True)
    assert {name for name, suite in SUITES.items() if suite.alone} >= {"speed", "kernels", "knobs"}
    with pytest.raises(ValueError, match="--devices names cuda and cells compute on cpu: give --device too"):
        fitted(Workers(("cuda:0", "cuda:1")), SUITE, chosen)
    assert fitted(HERE, SUITE, chosen) == HERE


class ClusterOfTwo:
    """Ray with two nodes of four GPUs each, which does tasks at once and notes what each asks for."""

    exceptions = SimpleNamespace(RayTaskError=KeyError, RayError=OSError)

    def __init__(self):
        self.asked, self.put = [], lambda job: self.asked.append(job.side_by_side)
        self.wait = lambda running, num_returns: (running[:num_returns], running[num_returns:])
        self.get = self.cancel = lambda *_, **__: None

    def nodes(self):
        return 2 * [{"Alive": True, "Resources": {"CPU": 32.0, "GPU": 4.0}}]

    def remote(self, **needs):
        self.asked.append(needs)
        return lambda _: SimpleNamespace(remote=lambda there, task: task)


@pytest.mark.parametrize(("alone", "cores", "beside"), [(False, 8, 4), (True, 32, 1)])
def test_cells_of_times_have_a_node_of_ray_to_themselves(tmp_path, monkeypatch, alone, cores, beside):
    ray = ClusterOfTwo()
    monkeypatch.setattr(cell_pool, "connect", lambda _: ray)
    several = tasks("how=fine", "size=1,2,3")
    done = cell_pool.carry_out(
        job(tmp_path, on_gpu=True), several, Workers(ray=True, alone=alone), print, lambda _: None
    )
    assert [task for task, _ in done] == several
    needs = {"num_cpus": cores, "num_gpus": 1, "max_retries": cell_pool.RESTARTS}
    assert ray.asked == 2 * [needs, beside], "a wave of the reference, then one of the others"


def by_setting(folder):
    records = read(folder / "records.jsonl").records
    return {(each.cell.values["how"], each.cell.values["size"]): each for each in records}, records


def go(folder, workers, ways="fine,raise,kill", **options):
    suite = override(SUITE, [f"how={ways}", "size=1,3,13"])
    lines = []
    outcome = run("toy", suite, IDENTITY, plan(suite, IDENTITY.basis), folder, workloads=TOYS, workers=workers,
                  say=lines.append, **options)  # fmt: skip
    return outcome, lines


@pytest.mark.slow
@pytest.mark.skipif(len(CORES) < 2, reason="two devices are two cores")
def test_two_devices_do_each_cell_once_and_end_as_one_does(tmp_path):
    one, _ = go(tmp_path / "one", HERE)
    two, lines = go(tmp_path / "two", Workers(("cpu", "cpu")))
    assert two == one
    (alone, _), (beside, records) = by_setting(tmp_path / "one"), by_setting(tmp_path / "two")
    assert {key: each.attempt.status for key, each in beside.items()} == {
        key: each.attempt.status for key, each in alone.items()
    }
    assert {each.cell.id for each in beside.values()} == {each.cell.id for each in alone.values()}
    assert sum(each.cell.values["how"] == "kill" for each in records) == 5, "two that fail twice, one is skipped"
    assert {each.facts.get("side_by_side") for each in records if each.attempt.status == "ok"} == {"2"}
    assert any("once more" in line for line in lines)
    again, _ = go(tmp_path / "two", Workers(("cpu", "cpu")))
    assert again.reused == 3 + 3, "ok and skipped"
    late, _ = go(tmp_path / "three", Workers(("cpu", "cpu")), end=0.0)
    assert (late.untried, late.exit_code) == (7, 4)


def ray_workers():
    """Ids of the processes in which Ray does cells."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_bytes().startswith(b"ray::_do_on_node"):
                yield int(process.name)
        except OSError:
            continue


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_a_worker_of_ray_that_dies_gives_its_cell_back(tmp_path, monkeypatch):
    """Two nodes do one cell at a time each; one's worker is killed while it does a cell that would not end."""
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("TOY_WAIT", str(tmp_path / "go on"))
    monkeypatch.setenv("RAY_worker_niceness", "0")
    cores = {"num_cpus": int(IDENTITY.machine["cores"])}
    cluster = Cluster(initialize_head=True, head_node_args=cores)
    cluster.add_node(**cores)
    path = os.pathsep.join([str(Path(__file__).parents[3]), TOY_PATH])
    ray.init(address=cluster.address, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": path}})
    killed = []

    def kill_a_worker():
        """Once two cells hang, one on each node; then let cells end."""
        while sum(1 for _ in tmp_path.glob("cells/*/pid")) < 3:  # the reference had one
            time.sleep(0.05)
        killed.append(next(ray_workers()))
        os.kill(killed[0], signal.SIGKILL)
        (tmp_path / "go on").touch()

    killer = threading.Thread(target=kill_a_worker, daemon=True)
    killer.start()
    try:
        outcome, _ = go(tmp_path, Workers(ray=True), ways="hang")
    finally:
        killer.join(60)
        ray.shutdown()
        cluster.shutdown()
    assert killed
    assert outcome.counts == {"ok": 3, "skipped": 1}
    _, records = by_setting(tmp_path)
    assert len(records) == 4, "no cell has two records"
    assert {each.machine.get("node") for each in records if each.attempt.status == "ok"} == {os.uname().nodename}
    begun = (tmp_path / "cells" / "log_of_cells").read_text().split("\n")
    assert sorted(begun.count(f"hang {size}") for size in (1, 3)) == [1, 2], "the dead worker's cell was done again"
    for pid in tmp_path.glob("cells/*/pid"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), signal.SIG_DFL)
