"""Cells of the suite `load`: what is measured, simulated, served here and asked of a server."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from bench.harness.job import Job
from bench.harness.suite_spec import override, plan
from bench.videos.load import load_cell, video_server
from bench.videos.load.load_suite import LOAD_SUITE, MEASURES, reference, settle
from bench.videos.load.open_loop import arrivals

FIXED = {**LOAD_SUITE.fixed, "arrivals": "poisson", "start": "warm", "rate": 1.0, "device": "cpu", "slo": 2.0}


class Clock:
    """A clock that only sleeping and working move."""

    def __init__(self):
        self.now = 0.0

    def read(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    """The clock of a cell whose batches take a second and half a second a video, the first one 4 s, loading 10 s."""
    clock, batches = Clock(), []

    class Generator:
        def __init__(self, values):
            clock.now += 10.0

        def make(self, texts, first, steps):
            clock.now += 1.0 + 0.5 * len(texts) + (0.0 if batches else 2.5)
            batches.append((first, len(texts)))

    monkeypatch.setattr("bench.videos.generator.Generator", Generator)
    for name in ("monotonic", "perf_counter"):
        monkeypatch.setattr(load_cell.time, name, clock.read)
    monkeypatch.setattr(load_cell.time, "sleep", clock.sleep)
    return clock


def run(folder, before=None, **values):
    folder.mkdir(exist_ok=True)
    return load_cell.run(Job({**FIXED, **values}, folder, before))


def test_a_queue_on_the_simulated_clock_is_the_one_in_real_time(clock, tmp_path, monkeypatch):
    """Arrivals, batches and service times are the same, so every latency is."""
    monkeypatch.setattr(load_cell, "REPLICATIONS", 1)
    measured = run(tmp_path / "batches", rate=0.0, requests=0)
    assert measured.numbers["load_seconds"].value == 10.0
    assert measured.numbers["cold_seconds"].value == 4.0
    assert measured.numbers["single_seconds"].value == 1.5
    assert measured.numbers["capacity"].value == pytest.approx(4 / 3)
    settings = {"requests": 60, "window": 0.5, "seed": 0}
    for start in ("warm", "cold"):
        simulated = run(tmp_path / "queue", tmp_path / "batches", start=start, **settings)
        real = run(tmp_path / "real", queue="real", start=start, **settings)
        latencies = [each.samples["latency_seconds"] for each in (simulated, real)]
        if start == "warm":
            np.testing.assert_allclose(*latencies, atol=1e-6)
        for results in (measured, simulated, real):
            assert set(results.numbers) | set(results.absent) == set(MEASURES)
    assert min(latencies[0][:1]) > 10.0


def test_goodput_falls_where_arrivals_exceed_the_capacity(clock, tmp_path):
    run(tmp_path / "batches", rate=0.0, requests=0)
    slow, fast = (
        run(tmp_path / "queue", tmp_path / "batches", rate=rate, requests=100, slo=5.0).numbers for rate in (0.3, 3.0)
    )
    assert slow["in_time"].value > 90
    assert fast["in_time"].value < 20
    assert slow["goodput"].value > fast["goodput"].value
    assert fast["latency_p50"].low < fast["latency_p50"].value < fast["latency_p99"].value
    assert slow["batch_mean"].value < 2 < fast["batch_mean"].value
    assert fast["busy"].value > 90


def test_the_plan_measures_batches_once_and_a_server_none():
    several = plan(override(LOAD_SUITE, ["rate=1,2", "device=cpu"]), {})
    assert [item.cell.values["rate"] for item in several] == [0.0, *[1.0, 2.0] * 4]
    assert {reference(item.cell.values)["rate"] for item in several[1:]} == {0.0}
    elsewhere = plan(override(LOAD_SUITE, ["rate=1,2", "url=http://127.0.0.1:9"]), {})
    assert len(elsewhere) == 8
    assert settle({**FIXED, "url": "http://x", "batch": 7})["batch"] == 1
    real = plan(override(LOAD_SUITE, ["queue=real", "concurrency=2", "device=cpu"]), {})
    assert all("one pipeline serves one batch at a time" in item.skip for item in real)


@contextmanager
def server(*, fails=(), looks=1):
    """A server of OpenAI's protocol whose videos are done at the second look."""
    asked, left = [], {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, body))
            left[str(len(asked))] = looks
            self.answer({"id": str(len(asked)), "status": "queued"})

        def do_GET(self):
            number = self.path.rsplit("/", 1)[1]
            left[number] -= 1
            done = "failed" if int(number) in fails else "completed"
            self.answer({"id": number, "status": "in_progress" if left[number] >= 0 else done, "error": "no memory"})

        def answer(self, content):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}", asked
        finally:
            http.shutdown()
            thread.join()


def test_a_server_gets_every_request_at_its_time_and_failures_count(tmp_path, monkeypatch):
    monkeypatch.setattr(video_server, "POLL", 0.02)
    settings = {"requests": 12, "rate": 100.0, "width": 64, "height": 32, "frames": 9, "start": "cold"}
    with server(fails=(3,)) as (url, asked):
        results = run(tmp_path, url=url, **settings)
    assert len(asked) == 12
    assert {path for path, _ in asked} == {"/v1/videos"}
    assert asked[0][1] | {"prompt": ""} == {"model": "pocket", "num_frames": 9, "size": "64x32", "prompt": ""}
    assert results.numbers["in_time"].value == pytest.approx(100 * 11 / 12)
    assert 0.02 < results.numbers["latency_p50"].value < 2
    assert "the video ended as 'failed': no memory" in results.absent["latency_p99"]
    assert len(results.samples["latency_seconds"]) == 11


def test_requests_do_not_wait_for_answers(monkeypatch):
    """Each takes at least two looks of 0.1 s; one after the other they would take six times as long."""
    times = arrivals(200.0, 6)
    with server(looks=2) as (url, _):
        served, reason = video_server.load_endpoint(url, [{}] * 6, times, timeout=60)
    assert reason == ""
    assert (served.latencies >= 0.2).all()
    assert (served.begins >= times).all()
    assert (served.begins < served.ends.min()).all()


def test_a_server_that_is_not_there_is_a_failure_with_its_reason(tmp_path):
    results = run(tmp_path, url="http://127.0.0.1:9", requests=2, rate=100.0, start="cold")
    assert "so many requests failed, the first one by URLError" in results.absent["latency_p50"]
    assert results.numbers["goodput"].value == 0.0
