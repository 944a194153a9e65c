"""API, worker, beat and Flower on one Redis, and since when each of them works again."""

import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx

from kit.settings import BASE_DIR
from kit.testing import QueueProcess, free_port, run_api
from kit.tests.background import Background

FLOWER_LOGIN = ("operator", "open sesame")
REQUEST_SECONDS = 30
POLL_SECONDS = 0.1
LAST_LINES = 40
"""Of each process, told when one is late."""
START_SECONDS = 60
"""Much longer than the start of all takes, for a machine that is busy."""
PING_PATH = "/api/tasks/ping"


class WatchedService:
    """One process of each kind; beat sends the heartbeat each second.

    Args:
        redis_url: of the Redis they use, or of a link to it.
        directory: where files for them may be written.
        environment: further settings of theirs.
        api_module: what serves the API.
    """

    def __init__(
        self,
        redis_url: str,
        directory: Path,
        environment: Mapping[str, str],
        *,
        api_module: str = "kit.commands.serve",
    ) -> None:
        flower_port = free_port()
        common = {**environment, "REDIS_URL": redis_url}
        self._stack = ExitStack()
        self._api_environment = common
        self._api_module = api_module
        self._arguments: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
            "worker": (("worker", "--task-events"), common),
            "beat": (("beat",), common | tick_each_second(directory)),
            "flower": (
                ("flower",),
                common
                | {
                    "FLOWER_PORT": str(flower_port),
                    "FLOWER_USERNAME": FLOWER_LOGIN[0],
                    "FLOWER_PASSWORD": FLOWER_LOGIN[1],
                },
            ),
        }
        self._flower_url = f"http://127.0.0.1:{flower_port}"

    def __enter__(self) -> "WatchedService":
        """Start all; they need not be up yet, save that the API serves."""
        enter = self._stack.enter_context
        try:
            address = enter(run_api(self._api_environment, module=self._api_module))
            self.http = enter(httpx.Client(base_url=address, timeout=REQUEST_SECONDS))
            self.worker, self.beat, self.flower = (
                enter(QueueProcess(*arguments, **environment))
                for arguments, environment in self._arguments.values()
            )
            self._flower_pages = enter(
                httpx.Client(base_url=self._flower_url, auth=FLOWER_LOGIN, timeout=REQUEST_SECONDS)
            )
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def send(self, message: str) -> httpx.Response:
        """Have the API send a task, which the worker logs with the message."""
        return self.http.post(PING_PATH, json={"message": message})

    def runs(self) -> Counter[str]:
        """How many times the worker ran the task of each message: its log, which no Redis keeps."""
        lines = self.worker.lines[:]
        return Counter(line.partition("pong: ")[2] for line in lines if "pong: " in line)

    def redis_health(self) -> dict[str, Any]:
        """What `/health/ready` says of Redis; the database has to be up."""
        answer = self.http.get("/health/ready")
        checks: dict[str, dict[str, Any]] = answer.json()["checks"]
        assert checks["database"]["state"] == "up", checks
        is_up = checks["redis"]["state"] == "up"
        assert answer.status_code == (HTTPStatus.OK if is_up else HTTPStatus.SERVICE_UNAVAILABLE)
        return checks["redis"]

    def seconds_until_works(self, *, limit: float) -> dict[str, float]:
        """How long it takes until each process is seen at work; fails when one is not in time.

        The API has sent a task, `/health/ready` says so, the worker has run a task of after this
        call, beat has sent one, and Flower has heard of one.
        """
        message = secrets.token_hex(4)
        beats = len(self.beat.lines)
        probes: dict[str, Callable[[], bool]] = {
            "api": lambda: self.send(message).status_code == HTTPStatus.ACCEPTED,
            "ready": lambda: self.redis_health()["state"] == "up",
            "worker": lambda: message in self.runs(),
            "beat": lambda: any("Sending due task" in line for line in self.beat.lines[beats:]),
            "flower": lambda: self._flower_knows(message),
        }
        began, end = time.monotonic(), threading.Event()
        with ThreadPoolExecutor(len(probes) + 1) as pool:
            pool.submit(self._keep_sending, message, end)
            waits = {
                name: pool.submit(_seconds_until, probe, began, limit)
                for name, probe in probes.items()
            }
            try:
                seconds = {name: wait.result() for name, wait in waits.items()}
            finally:
                end.set()
        late = [name for name, value in seconds.items() if value >= limit]
        assert not late, f"{late} did not work within {limit:g} s: {seconds}\n{self._last_lines()}"
        return seconds

    def _last_lines(self) -> str:
        processes = {"worker": self.worker, "beat": self.beat, "flower": self.flower}
        return "\n".join(
            f"{name}: {line}"
            for name, process in processes.items()
            for line in process.lines[-LAST_LINES:]
        )

    def _keep_sending(self, message: str, end: threading.Event) -> None:
        while not end.wait(5 * POLL_SECONDS):
            self.send(message)

    def _flower_knows(self, message: str) -> bool:
        try:
            answer = self._flower_pages.get("/api/tasks", params={"limit": 100})
        except httpx.ConnectError:  # not up yet
            return False
        if answer.status_code != HTTPStatus.OK:  # up, but not ready
            return False
        tasks = answer.json().values()
        return any(message in (task["args"] or "") for task in tasks)


def _seconds_until(probe: Callable[[], bool], began: float, limit: float) -> float:
    while not probe():
        if time.monotonic() - began >= limit:
            break
        time.sleep(POLL_SECONDS)
    return round(time.monotonic() - began, 1)


class Senders(Background):
    """Clients of the API that send tasks as fast as they are accepted, each with its own message.

    Args:
        service: whose API.
        count: how many send at the same time.
    """

    def __init__(self, service: WatchedService, count: int) -> None:
        super().__init__([partial(self._send, number) for number in range(count)])
        self.count = count
        self.accepted: list[str] = []
        """Messages whose task was accepted."""
        self.refusals: list[httpx.Response] = []
        self.slowest_seconds = 0.0
        self._service = service

    def _send(self, sender: int) -> None:
        number = 0
        while not self._end.wait(0.02):
            number += 1
            message = f"task {sender}-{number}"
            answer = self._service.send(message)
            self.slowest_seconds = max(self.slowest_seconds, answer.elapsed.total_seconds())
            if answer.status_code == HTTPStatus.ACCEPTED:
                self.accepted.append(message)
            else:
                self.refusals.append(answer)


def tick_each_second(directory: Path) -> dict[str, str]:
    """What makes a beat send the heartbeat each second, by its own schedule."""
    code = "import kit.queue._tasks as s; s.SCHEDULES['heartbeat']['schedule'] = 1"
    return at_start(directory, code)


def at_start(directory: Path, code: str) -> dict[str, str]:
    """Environment in which a process of the service runs some code before anything else.

    Args:
        directory: a folder for the file with the code.
        code: Python, which may import the service.
    """
    (directory / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": os.pathsep.join([str(directory), str(BASE_DIR)])}
