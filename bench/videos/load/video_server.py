"""Load for a video server that speaks OpenAI's protocol: POST /v1/videos, then GET /v1/videos/ID until it is done."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any
from urllib.parse import quote

import numpy as np

from bench.videos.load.open_loop import LoadOutcome, Times

POLL = 0.1  # seconds between two looks at a video, by which a latency may be too long
OPEN = 30.0  # seconds that a server may take to answer one HTTP request
PENDING = ("queued", "in_progress")


def load_endpoint(
    url: str, bodies: Sequence[Mapping[str, Any]], times: Times, timeout: float | int
) -> tuple[LoadOutcome, str]:
    """Send every request at its time, whatever became of those before, and wait for all answers.

    Args:
        url: of the server, without /v1/videos.
        bodies: JSON of each request.
        times: arrivals in seconds from now.
        timeout: seconds from its arrival after which a video has failed.

    Returns:
        What became of the requests, and the reason of the first failure ("" if there was none). A request that cannot
        be sent in time begins late, which its latency contains.
    """
    begins, ends, reasons = np.array(times), np.full(len(times), np.inf), list[str]()
    began = time.monotonic()

    def one(number: int) -> None:
        begins[number] = time.monotonic() - began
        try:
            _wait_for_video(url, bodies[number], began + float(times[number]) + timeout)
            ends[number] = time.monotonic() - began
        except (OSError, HTTPException, ValueError) as error:
            reasons.append(f"{type(error).__name__}: {error}")

    with ThreadPoolExecutor(len(times)) as threads:
        for number, at in enumerate(times):
            time.sleep(max(0.0, began + float(at) - time.monotonic()))
            threads.submit(one, number)
    return LoadOutcome(np.array(times), begins, ends), reasons[0] if reasons else ""


def _wait_for_video(url: str, body: Mapping[str, Any], end: float) -> None:
    """Ask for a video and return when it is done.

    Raises:
        ValueError: it failed, or was not done in time.
    """
    place = f"{url.rstrip('/')}/v1/videos"
    video = _json(place, body)
    while (status := video.get("status")) in PENDING:
        if time.monotonic() > end:
            raise ValueError("the video was not done in time")
        time.sleep(POLL)
        video = _json(f"{place}/{quote(str(video.get('id')), safe='')}")
    if status != "completed":
        raise ValueError(f"the video ended as {status!r}: {video.get('error')}")


def _json(url: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The object that the server answers with.

    Raises:
        OSError: it does not answer, or with an error.
        ValueError: its answer is no JSON object.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=OPEN) as answer:
        content = json.load(answer)
    if not isinstance(content, dict):
        raise ValueError(f"a server answers with a JSON object: got {type(content).__name__} from {url}")
    return content
