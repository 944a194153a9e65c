"""The id of the task that is running, for log lines.

A module of its own, so that logging can use it without importing Celery.
"""

from contextvars import ContextVar

PREFIX_LENGTH = 8
"""Characters of a task's id that a log line shows: enough to tell the tasks of a day apart."""

# A tuple, since a task may run another one in place (`apply()`).
_running: ContextVar[tuple[str, ...]] = ContextVar("running_tasks", default=())


def get_task_id() -> str:
    """Prefix for log lines, as `[b83caca6] `; an empty string outside a task."""
    running = _running.get()
    return f"[{running[-1][:PREFIX_LENGTH]}] " if running else ""


def bind_task_id(task_id: str) -> None:
    """Note that a task begins."""
    _running.set((*_running.get(), task_id))


def unbind_task_id() -> None:
    """Note that the task that began last has ended."""
    _running.set(_running.get()[:-1])
