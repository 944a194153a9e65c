"""A worker's consumer: the tasks that it gives up, and those that it leaves to a newer worker."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import redis
from billiard.einfo import ExceptionInfo
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.request import Request
from celery.worker.state import maybe_shutdown

from kit.redis import UNKNOWN_SINCE, RedisPoolBusyError, delivery_count, seconds_until
from kit.settings import settings

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 10, 600
"""Seconds until a worker is asked again for an unknown task; each pause doubles the time so far."""

UNKNOWN_FOR_MOST = 3 * 24 * 3600
"""Seconds after which an unknown task is given up: a weekend."""

LONGEST_RESTART_PAUSE = 10
"""Seconds between two connections; a Redis that works again is noticed within them."""

REPORT_INTERVAL = 60
"""Seconds between two log lines about unknown tasks of one name."""


class TaskGivenUpError(Exception):
    """A task was delivered `CELERY_MAX_DELIVERIES` times, and never ended."""


class _Restarts:
    """Pauses before a new connection that soon follows the one before, longer each time.

    Celery's own allows five a second, without end, on a Redis that refuses a command.
    """

    _pause = 0.0
    _restarted_at = float("-inf")

    def step(self) -> None:
        """Wait; ends early, by `WorkerShutdown`, when the worker is to stop."""
        is_soon = time.monotonic() - self._restarted_at < LONGEST_RESTART_PAUSE
        self._pause = min(max(1, 2 * self._pause), LONGEST_RESTART_PAUSE) if is_soon else 0
        end = time.monotonic() + self._pause
        while (left := end - time.monotonic()) > 0:
            maybe_shutdown()
            time.sleep(min(left, 0.5))
        self._restarted_at = time.monotonic()


class Consumer(CeleryConsumer):
    """Celery's consumer, which runs no task for ever and drops none that it does not know.

    Celery redelivers a task whose worker is lost, which is right for one that was in its way, and
    without end for one that kills it (https://github.com/celery/celery/issues/9082). It throws away
    a task that it does not know, as a worker does that is older than the sender.
    """

    controller: Any
    connection_errors: Any

    def __init__(self, on_task_request: Callable[[Any], object], **options: Any) -> None:
        super().__init__(partial(self._run_or_give_up, on_task_request), **options)
        self._reported: dict[str, float] = {}
        self._restart_state = _Restarts()

    def _run_or_give_up(self, run: Callable[[Any], object], request: Request) -> None:
        if delivery_count(request.message) < settings.CELERY_MAX_DELIVERIES:
            run(request)
            return
        error = TaskGivenUpError(
            f"given up after {settings.CELERY_MAX_DELIVERIES} deliveries (CELERY_MAX_DELIVERIES): "
            "each time its worker was lost (killed, out of memory, crashed), or it ran longer than "
            "CELERY_VISIBILITY_TIMEOUT"
        )
        logger.error(
            "%s[%s] args=%s kwargs=%s is %s; fix it, then `make dead-letters send=%s`",
            *(request.name, request.id, request.argsrepr, request.kwargsrepr, error, request.id),
        )
        request.acknowledged = True  # by `bury`, once the failure is stored
        with _or_later(request.message):
            try:
                raise error
            except TaskGivenUpError:
                request.on_failure(ExceptionInfo())
            request.message.channel.qos.bury(request.message, str(error))

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Leave a message to a newer worker, which knows its task, for three days at most."""
        headers = message.headers
        if "task" not in headers:  # an older protocol's, which no sender of today uses
            super().on_unknown_task(body, message, exc)
            return
        is_expired = bool(headers.get("expires")) and seconds_until(headers["expires"]) < 0
        age = time.time() - headers.setdefault(UNKNOWN_SINCE, time.time())
        with _or_later(message):
            if is_expired or headers["id"] in self.controller.state.revoked:
                reason = "expired" if is_expired else "revoked"
                self.app.backend.mark_as_revoked(headers["id"], reason)
                message.ack_log_error(logger, self.connection_errors)
            elif age > UNKNOWN_FOR_MOST:
                message.channel.qos.bury(message, f"no worker knew {headers['task']}")
                super().on_unknown_task(body, message, exc)
            else:
                message.channel.qos.postpone(message, min(max(age, FIRST_PAUSE), LONGEST_PAUSE))
                self._report_unknown(headers["task"], headers["id"])

    def _report_unknown(self, name: str, task_id: str) -> None:
        if time.monotonic() - self._reported.get(name, float("-inf")) < REPORT_INTERVAL:
            return
        self._reported[name] = time.monotonic()
        logger.error(
            "This worker has no task %s: %s waits for one that has it. Start a worker with the "
            "sender's code; if the name is wrong, or the task was removed, revoke it in Flower",
            *(name, task_id),
        )


@contextmanager
def _or_later(message: Any) -> Iterator[None]:
    """Leave a message to its next delivery when Redis refuses what is done with it."""
    try:
        yield
    except (redis.RedisError, RedisPoolBusyError) as error:
        message.channel.qos.leave(message.delivery_tag)
        logger.warning("%s stays in Redis, and is redelivered: %s", message.headers["id"], error)
