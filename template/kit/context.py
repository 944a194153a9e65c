"""The ids of the current request and of the running task, for log lines; a request's root path.

A module that imports nothing, so that logging and models can use it.
"""

import re
import uuid
from collections.abc import Mapping
from contextvars import ContextVar, Token
from typing import Any

REQUEST_ID_HEADER = "X-Request-ID"

# A stranger's id goes into logs and into Celery's headers, so it may only be a short plain word.
_ACCEPTED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

_request_id: ContextVar[str] = ContextVar("request_id", default="")


def get_request_id() -> str:
    """The bound request id; an empty string outside a request and outside a task that one sent."""
    return _request_id.get()


def bind_request_id(request_id: str) -> Token[str]:
    """Bind a request id to the running context; pass the token to `unbind_request_id`."""
    return _request_id.set(request_id)


def unbind_request_id(token: Token[str]) -> None:
    """Restore the request id that was bound before `bind_request_id` returned this token."""
    _request_id.reset(token)


def accepted_request_id(candidate: str | None) -> str:
    """The caller's id where it is a plain word of at most 128 characters, otherwise a new one."""
    if candidate and _ACCEPTED.fullmatch(candidate):
        return candidate
    return uuid.uuid4().hex


PREFIX_LENGTH = 8
"""Characters of a task's id that a log line shows: enough to distinguish the tasks of a day."""

# A tuple, since a task may run another one in place (`apply()`).
_running: ContextVar[tuple[str, ...]] = ContextVar("running_tasks", default=())


def get_task_id() -> str:
    """Prefix for log lines, as `[b83caca6] `; an empty string outside a task."""
    running = _running.get()
    return f"[{running[-1][:PREFIX_LENGTH]}] " if running else ""


def bind_task_id(task_id: str) -> None:
    """Bind the id of a task that begins."""
    _running.set((*_running.get(), task_id))


def unbind_task_id() -> None:
    """Unbind the id of the task that was bound last."""
    _running.set(_running.get()[:-1])


def root_path(scope: Mapping[str, Any]) -> str:
    """The path below which the service is served, as `/shop`; empty where it has a host."""
    # A mounted application's own root is longer.
    return str(scope.get("app_root_path", scope.get("root_path", "")))
