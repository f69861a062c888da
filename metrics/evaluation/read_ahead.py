"""Work for readers in threads of their own, a bounded way ahead of the thread that runs networks."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")
Part = TypeVar("Part")
PATIENCE = 0.1  # seconds until a reader looks whether it is still needed


class _End(NamedTuple):
    error: BaseException | None


def read_ahead(
    items: Iterable[Item],  # is iterated in the caller's thread
    read: Callable[[Item], Iterator[Part]],  # runs in a reader's
    *,
    weight: Callable[[Item], int],  # how many parts an item has, about
    room: int,  # parts that may wait, about
    depth: int,  # parts of one item that may wait
    readers: int,
) -> Iterator[Part]:
    """The parts of all items, in order; what `read` raises is raised where its next part would come."""
    stop = threading.Event()

    def run(item: Item, lane: "queue.Queue[Part | _End]") -> None:
        error = None
        try:
            for part in read(item):
                if not _put(lane, part, stop):
                    return
        except BaseException as fault:
            error = fault
        _put(lane, _End(error), stop)

    upcoming, lanes = iter(items), deque[tuple[queue.Queue[Part | _End], int]]()
    with ThreadPoolExecutor(readers) as pool:
        try:
            while True:
                while sum(weight for _, weight in lanes) < room:
                    item = next(upcoming, None)
                    if item is None:
                        break
                    lanes.append((queue.Queue(depth), min(room, max(1, weight(item)))))
                    pool.submit(run, item, lanes[-1][0])
                if not lanes:
                    return
                lane, _ = lanes[0]
                while not isinstance(part := lane.get(), _End):
                    yield part
                lanes.popleft()
                if part.error is not None:
                    raise part.error
        finally:
            stop.set()


def _put(lane: "queue.Queue[Part]", part: Part, stop: threading.Event) -> bool:
    """Whether somebody still waits for it."""
    while not stop.is_set():
        try:
            lane.put(part, timeout=PATIENCE)
        except queue.Full:
            continue
        return True
    return False
