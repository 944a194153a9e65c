"""Readers of Flower's pages, who open one after the other."""

import time

import httpx

from kit.testing._processes import START_SECONDS
from kit.tests.background import Background

READERS = 3
PAUSE_SECONDS = 0.1
PAGES = (
    "/",
    "/workers?refresh=1",
    "/worker/{worker}",
    "/tasks",
    "/tasks/datatable?draw=1&start=0&length=10&search[value]=&order[0][column]=0",
    "/broker",
    "/metrics",
    "/api/workers?refresh=1",
    "/api/tasks?limit=50",
    "/api/task/types",
    "/api/queues/length",
)


class FlowerReaders(Background):
    """Open pages as long as the block runs."""

    def __init__(self, address: str, login: tuple[str, str]) -> None:
        super().__init__([self._read] * READERS)
        self.opened = 0
        self.problems: list[str] = []
        self.slowest_seconds = 0.0
        self._client = httpx.Client(base_url=address, auth=login, timeout=30)
        self._worker = ""

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._client.close()

    def __str__(self) -> str:
        return f"{self.opened} of Flower's pages, slowest {self.slowest_seconds:.2f} s"

    def wait_for_worker(self) -> None:
        """Return when Flower knows a worker, having asked it what there is to know."""
        deadline = time.monotonic() + START_SECONDS
        while not (workers := self._client.get("/api/workers?refresh=1").json()):
            assert time.monotonic() < deadline, "Flower sees no worker"
            time.sleep(0.1)
        (self._worker,) = workers

    def _read(self) -> None:
        while not self._end.is_set():
            for page in PAGES:
                self._open(page.format(worker=self._worker))
                if self._end.wait(PAUSE_SECONDS):
                    break

    def _open(self, page: str) -> None:
        try:
            answer = self._client.get(page)
        except httpx.HTTPError as error:
            self.problems.append(f"{page}: {error!r}")
            return
        self.opened += 1
        self.slowest_seconds = max(self.slowest_seconds, answer.elapsed.total_seconds())
        if answer.status_code != httpx.codes.OK:
            self.problems.append(f"{page}: {answer.status_code}")
