"""The last requests of this process and their log lines, kept in memory."""

import logging
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kit.context import get_request_id
from kit.process import ConsoleFormatter

REQUESTS = 50
LINES = 50
LONGEST_LINE = 20_000
"""Characters, so that a traceback is one line: 50 MB if all lines were that long."""
SHOWN = 8
_FIRST_FAILURE = 500
_OF_PAGES = ("/static", "/admin/statics", "/admin/kit", "/scalar/", "/health/", "/_live")
"""What pages load, and what asks again and again: of no interest unless it fails."""


@dataclass(frozen=True)
class SeenRequest:
    """A request that was answered."""

    id: str
    method: str
    path: str
    status: int | None
    """None where it was not answered."""
    milliseconds: float
    ended_at: datetime

    @property
    def has_failed(self) -> bool:
        """Whether it was the service's fault."""
        return self.status is None or self.status >= _FIRST_FAILURE


class RequestMemory(logging.Handler):
    """Remembers log lines by request, with secrets masked as in the log, and the access lines."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(ConsoleFormatter())
        self._lines: dict[str, deque[str]] = {}
        self._requests: deque[SeenRequest] = deque(maxlen=SHOWN)
        self._failures: deque[SeenRequest] = deque(maxlen=SHOWN)

    def emit(self, record: logging.LogRecord) -> None:
        """Remember a line, unless it belongs to no request."""
        request_id = get_request_id()
        if not request_id:
            return
        lines = self._lines.setdefault(request_id, deque(maxlen=LINES))
        lines.append(self.format(record)[:LONGEST_LINE])
        if hasattr(record, "duration_ms"):
            seen: Any = record  # with the access line's `extra`
            ended_at = datetime.fromtimestamp(record.created, UTC)
            self._remember(
                SeenRequest(
                    request_id, seen.method, seen.path, seen.status, seen.duration_ms, ended_at
                )
            )
        if len(self._lines) > REQUESTS:
            failed = {each.id for each in self._failures}
            del self._lines[next(each for each in self._lines if each not in failed)]

    def _remember(self, request: SeenRequest) -> None:
        if request.has_failed:
            self._failures.appendleft(request)
        elif request.path.startswith(_OF_PAGES):
            del self._lines[request.id]
            return
        self._requests.appendleft(request)

    @property
    def requests(self) -> list[SeenRequest]:
        """The last requests, newest first."""
        return [*self._requests]

    @property
    def failures(self) -> list[SeenRequest]:
        """The last ones that failed, newest first."""
        return [*self._failures]

    def lines_of(self, request_id: str) -> list[str]:
        """The log of a request; empty where it is not known, or no longer."""
        return [*self._lines.get(request_id, ())]


memory = RequestMemory()
