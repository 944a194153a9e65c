import threading
import time
from collections.abc import Callable
from queue import Empty, Full

import pytest

from kit.redis._pool import FairQueue


def start_taker(queue: FairQueue[str], take: Callable[[], None]) -> threading.Thread:
    """A thread that takes, once it waits in line."""
    waiting = len(queue._waiters)
    thread = threading.Thread(target=take)
    thread.start()
    while len(queue._waiters) == waiting:
        time.sleep(0.001)
    return thread


def test_the_last_that_was_put_is_taken_first() -> None:
    queue = FairQueue[str](2)
    queue.put("first")
    queue.put("last")
    assert [queue.get(), queue.get()] == ["last", "first"]


def test_more_than_it_holds_is_refused() -> None:
    queue = FairQueue[str](1)
    queue.put_nowait("one")
    with pytest.raises(Full):
        queue.put_nowait("two")


def test_who_came_first_is_served_first() -> None:
    queue = FairQueue[str](3)
    served: list[tuple[int, str]] = []

    def taker(number: int) -> Callable[[], None]:
        return lambda: served.append((number, queue.get(timeout=5)))

    threads = [start_taker(queue, taker(number)) for number in range(3)]
    for number, item in enumerate("abc"):
        queue.put(item)
        threads[number].join()

    assert served == [(0, "a"), (1, "b"), (2, "c")]


def test_who_gives_one_back_does_not_take_it_from_those_that_wait() -> None:
    queue = FairQueue[str](1)
    taken: list[str] = []
    waiting = start_taker(queue, lambda: taken.append(queue.get(timeout=5)))

    queue.put("connection")
    with pytest.raises(Empty):
        queue.get(block=False)

    waiting.join()
    assert taken == ["connection"]


def test_who_waited_in_vain_is_told_and_gets_nothing_later() -> None:
    queue = FairQueue[str](1)
    began = time.monotonic()
    with pytest.raises(Empty):
        queue.get(timeout=0.1)
    assert 0.1 <= time.monotonic() - began < 1

    queue.put("late")

    assert queue.get(block=False) == "late"


@pytest.mark.parametrize("is_served", [False, True])
def test_an_interrupted_taker_leaves_nothing_behind(
    is_served: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is told to stop by an exception that a signal raises, wherever it waits."""
    queue = FairQueue[str](1)

    def interrupt(_: threading.Condition, timeout: float | None = None) -> bool:
        if is_served:
            queue._put("handed over")  # this thread has the lock
        raise SystemExit

    with monkeypatch.context() as interrupted:
        interrupted.setattr(threading.Condition, "wait", interrupt)
        with pytest.raises(SystemExit):
            queue.get(timeout=5)
    if not is_served:
        queue.put("not handed over")

    assert queue.qsize() == 1


def test_nothing_is_lost_or_given_twice_under_load() -> None:
    queue = FairQueue[int](2)
    for item in range(2):
        queue.put(item)
    in_use: set[int] = set()
    problems: list[str] = []

    def take_and_give_back() -> None:
        for _ in range(100):
            item = queue.get(timeout=10)
            if item in in_use:
                problems.append(f"{item} was given twice")
            in_use.add(item)
            in_use.remove(item)
            queue.put(item)

    threads = [threading.Thread(target=take_and_give_back) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert problems == []
    assert sorted([queue.get(block=False), queue.get(block=False)]) == [0, 1]
