"""Real worker, beat and Flower processes for tests, and what they log."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from app.core.config import BASE_DIR

START_SECONDS = 30
"""Much longer than a start takes, for a machine that is busy."""


class QueueProcess:
    """`celery -A app.core.celery <arguments>`, with the settings of the test run and some more."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "app.core.celery", *arguments],
            cwd=BASE_DIR,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "QueueProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def output(self) -> str:
        """All that the process has written so far."""
        return "\n".join(self.lines)

    def wait_for(self, text: str, *, after: int = 0, seconds: float = START_SECONDS) -> str:
        """The first line with this text, from line number `after` on, as soon as it is written."""

        def found() -> str | None:
            return next((line for line in self.lines[after:] if text in line), None)

        with self._changed:
            self._changed.wait_for(
                lambda: found() or not self._reader.is_alive(), timeout=seconds
            )
            line = found()
        assert line is not None, f"{text!r} was not written:\n{self.output}"
        return line

    def exit_status(self) -> int:
        """The status with which the process has ended by itself."""
        status = self._process.wait(START_SECONDS)
        self._reader.join()
        return status

    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End the process as a supervisor does."""
        if self.is_running():
            self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


@pytest.fixture(scope="session")
def worker() -> Iterator[QueueProcess]:
    """A worker on the test run's Redis and queue, started once for the session."""
    with QueueProcess("worker") as process:
        process.wait_for("ready.")
        yield process
