"""Limits of tasks: one that would not run as its sender expects is refused before it is sent."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kombu.utils.json import JSONEncoder

from kit.settings import settings


class TaskRefusedError(ValueError):
    """A task was not sent; the message says why, and what to do instead."""


class PayloadTooLargeError(TaskRefusedError):
    """A task's arguments are larger than `CELERY_PAYLOAD_LIMIT`."""


class DelayTooLongError(TaskRefusedError):
    """A task is to wait so long that it would be redelivered to a second worker meanwhile."""


def refuse_large_payload(
    name: str,
    args: Any,
    kwargs: Any,
    options: Mapping[str, Any],
) -> None:
    """Check the size of a task's arguments, and of those of the tasks linked to it, as sent.

    Raises:
        PayloadTooLargeError: when they exceed `CELERY_PAYLOAD_LIMIT` bytes.
    """
    linked = [options.get(key) for key in ("link", "link_error", "chain", "chord")]
    try:
        size = len(json.dumps([args, kwargs, linked], cls=JSONEncoder))
    except TypeError:
        return  # no JSON: Celery's own refusal names the argument
    if size > settings.CELERY_PAYLOAD_LIMIT:
        raise PayloadTooLargeError(
            f"the arguments of {name} have {size} bytes, more than the "
            f"{settings.CELERY_PAYLOAD_LIMIT} of CELERY_PAYLOAD_LIMIT: "
            "store the data in the database and send its key"
        )


def refuse_long_delay(name: str, countdown: float | None, eta: datetime | str | None) -> None:
    """Check that a delayed task ends before its visibility timeout, when it would be redelivered.

    A worker takes a delayed task from the queue at once and keeps it unacknowledged, so waiting
    and running together have to fit into the visibility timeout.

    Args:
        name: the task's.
        countdown: seconds to wait.
        eta: moment to wait for; one without a time zone is taken as UTC, as Celery takes it.

    Raises:
        DelayTooLongError: when it would wait longer.
    """
    longest = settings.CELERY_VISIBILITY_TIMEOUT - settings.CELERY_TASK_MAX_SECONDS
    delay = countdown or 0 if eta is None else _seconds_until(eta)
    if delay > longest:
        raise DelayTooLongError(
            f"{name} is to wait {delay:.0f} s, but {longest} s are the most: waiting and running "
            f"(CELERY_TASK_MAX_SECONDS, {settings.CELERY_TASK_MAX_SECONDS}) have to fit into "
            f"CELERY_VISIBILITY_TIMEOUT ({settings.CELERY_VISIBILITY_TIMEOUT}), or a second worker "
            "would run it too; use a schedule, or raise CELERY_VISIBILITY_TIMEOUT"
        )


def _seconds_until(eta: datetime | str) -> float:
    moment = datetime.fromisoformat(eta) if isinstance(eta, str) else eta
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime.now(UTC)).total_seconds()
