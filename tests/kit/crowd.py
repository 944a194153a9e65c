"""Two hundred threads in an API process: `python -m kit.tests.crowd send_ask_and_wait`, and so on.

It ends with status 0 when every thread got what it should.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from app.core.celery import celery_app
from app.core.config import settings
from kit.process import this_process
from kit.queue._tasks import ping
from kit.redis._pool import RedisPoolBusyError, redis_client

THREADS = 200
TASKS = 1000
RESULT_SECONDS = 60
STAND_STILL_SECONDS = 6


def send_ask_and_wait() -> None:
    """Everybody sends, asks for the state and waits for the result."""

    def one(number: int) -> str:
        task = ping.delay(f"{number}")
        assert task.state in {"PENDING", "STARTED", "SUCCESS"}
        return str(task.get(timeout=RESULT_SECONDS)["message"])

    assert _all(one, TASKS) == [f"{number}" for number in range(TASKS)]


def inspect_and_revoke() -> None:
    """Everybody asks all workers, tells them something, and asks again."""
    control = celery_app.control

    def one(number: int) -> bool:
        (worker,) = control.inspect(timeout=RESULT_SECONDS, limit=1).ping() or {}
        control.revoke(f"task-{number}")
        answers = control.revoke(
            f"task-{number}", reply=True, destination=[worker], timeout=RESULT_SECONDS
        )
        return [list(answer) for answer in answers or []] == [[worker]]

    assert all(_all(one, THREADS))
    # One alone, with as many answers as come before there is silence for three seconds.
    assert len(control.inspect(timeout=3).ping() or {}) == 1


def send_in_vain() -> None:
    """Redis stands still: who has a connection waits for it, all others are told in time."""
    ping.delay("before")
    stands_still_until = time.monotonic() + STAND_STILL_SECONDS
    redis_client().client_pause(STAND_STILL_SECONDS * 1000)

    def one(number: int) -> str:
        try:
            ping.delay(f"{number}")
        except RedisPoolBusyError:
            assert time.monotonic() < stands_still_until
            return "busy"
        return "sent"

    size = settings.REDIS_POOL_SIZE
    assert Counter(_all(one, THREADS)) == {"busy": THREADS - size, "sent": size}
    ping.delay("after")


def _all(one: Callable[[int], object], count: int) -> list[object]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(count)))


CROWDS = {each.__name__: each for each in (send_ask_and_wait, inspect_and_revoke, send_in_vain)}

if __name__ == "__main__":
    this_process.become("api")
    CROWDS[sys.argv[1]]()
