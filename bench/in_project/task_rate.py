"""Sends so many tasks, waits for all results, and prints how many a second that were.

`task_rate.py service 300`, or `task_rate.py stock 300` for Celery on its own settings.
"""

import sys
from pathlib import Path
from time import perf_counter
from typing import Any

RESULT_SECONDS = 60


def task(whose: str) -> Any:  # noqa: ANN401 (a Celery task)
    """The service's task that does nothing, or the same on stock settings."""
    if whose == "service":
        import app.core.celery  # noqa: F401, PLC0415 (the application that sends it)
        from kit.queue import ping  # noqa: PLC0415

        return ping
    sys.path.append(str(Path(__file__).parents[1] / "floors"))
    from stock_celery import ping as stock_ping  # noqa: PLC0415

    return stock_ping


def main(whose: str, count: int) -> None:
    """Warm up with one task, then measure."""
    ping = task(whose)
    ping.delay("warm").get(timeout=RESULT_SECONDS)
    started = perf_counter()
    sent = [ping.delay("here") for _ in range(count)]
    for result in sent:
        result.get(timeout=RESULT_SECONDS)
    print(count / (perf_counter() - started))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
