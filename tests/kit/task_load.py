"""Fifty callers at once that send tasks through the API and ask for each result.

A program of its own, so that what it measures is the service and not the test beside it:
`python -m kit.tests.task_load ADDRESS TASKS PATH...` prints a `LoadReport` as JSON.
"""

import heapq
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

from app.core.config import BASE_DIR

RUNS = "runs-of-tasks"
"""A hash in Redis: how many times the task of each id began to run, see `counted_tasks`."""

CALLERS = 50
FIRST_POLL_SECONDS = 0.2
LONGEST_POLL_SECONDS = 2.0
REQUEST_SECONDS = 30
RESULT_SECONDS = 120
"""Much longer than requests and tasks take, for a machine that is busy."""


@dataclass
class LoadReport:
    """What came of it."""

    ids: list[str] = field(default_factory=list)
    """The tasks that were accepted, all of which succeeded."""
    requests: int = 0
    slowest_seconds: float = 0
    slowest: str = ""
    """The request that took longest."""
    seconds: float = 0
    problems: list[str] = field(default_factory=list)
    """Answers that were neither 202 to a sender nor 200 with the task's own result."""

    def __str__(self) -> str:
        return (
            f"{len(self.ids)} tasks, {self.requests} requests in {self.seconds:.1f} s, "
            f"slowest {self.slowest_seconds:.2f} s ({self.slowest})"
        )


def run_task_load(address: str, *paths: str, tasks: int) -> LoadReport:
    """Send tasks to each path in turn, from 50 callers, and poll each to its end.

    Raises:
        subprocess.CalledProcessError: when a request failed without an answer.
    """
    finished = subprocess.run(
        [sys.executable, "-m", "kit.tests.task_load", address, str(tasks), *paths],
        cwd=BASE_DIR,
        env=os.environ,
        stdout=subprocess.PIPE,
        check=True,
        timeout=2 * RESULT_SECONDS,
    )
    return LoadReport(**json.loads(finished.stdout))


class Caller:
    """One connection to the API, on which one request follows another."""

    def __init__(self, address: str, report: LoadReport, lock: threading.Lock) -> None:
        host = urlsplit(address).netloc
        self._connection = http.client.HTTPConnection(host, timeout=REQUEST_SECONDS)
        self._report = report
        self._lock = lock

    def run(self, paths: Sequence[str]) -> None:
        """Send a task to each path, and ask for each at growing intervals, as clients should."""
        polls: list[tuple[float, float, str]] = []
        deadline = time.monotonic() + RESULT_SECONDS
        waiting = list(paths)
        while (waiting or polls) and time.monotonic() < deadline:
            if polls and (polls[0][0] <= time.monotonic() or not waiting):
                due, pause, task_id = heapq.heappop(polls)
                time.sleep(max(0, due - time.monotonic()))
                if not self._is_done(task_id):
                    pause = min(2 * pause, LONGEST_POLL_SECONDS)
                    heapq.heappush(polls, (time.monotonic() + pause, pause, task_id))
            elif task_id := self._send(waiting.pop()):
                due = time.monotonic() + FIRST_POLL_SECONDS
                heapq.heappush(polls, (due, FIRST_POLL_SECONDS, task_id))
        with self._lock:
            self._report.problems += [f"{task_id} is not done" for _, _, task_id in polls]
        self._connection.close()

    def _send(self, path: str) -> str:
        status, answer = self._request("POST", path, {"message": "under load"})
        with self._lock:
            if status != http.HTTPStatus.ACCEPTED:
                self._report.problems.append(f"{path}: {answer}")
                return ""
            self._report.ids.append(answer["id"])
        return str(answer["id"])

    def _is_done(self, task_id: str) -> bool:
        status, task = self._request("GET", f"/api/tasks/{task_id}")
        if status == http.HTTPStatus.OK and not task["ready"]:
            return False
        if status != http.HTTPStatus.OK or task["state"] != "SUCCESS":
            with self._lock:
                self._report.problems.append(f"{task_id}: {task}")
        return True

    def _request(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, str]]:
        began = time.monotonic()
        self._connection.request(
            method, path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        answer = self._connection.getresponse()
        content = answer.read()
        seconds = time.monotonic() - began
        with self._lock:
            self._report.requests += 1
            if seconds > self._report.slowest_seconds:
                self._report.slowest_seconds = seconds
                self._report.slowest = f"{method} {path}: {answer.status}"
        return answer.status, json.loads(content)


def main(address: str, tasks: str, *paths: str) -> None:
    """All callers at once."""
    report, lock = LoadReport(), threading.Lock()
    each = [paths[number % len(paths)] for number in range(int(tasks))]
    callers = [
        threading.Thread(target=Caller(address, report, lock).run, args=[each[number::CALLERS]])
        for number in range(CALLERS)
    ]
    began = time.monotonic()
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    report.seconds = time.monotonic() - began
    print(json.dumps(asdict(report)))  # noqa: T201 (the result)


if __name__ == "__main__":
    main(*sys.argv[1:])
