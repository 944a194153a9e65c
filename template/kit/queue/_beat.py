"""Beat: RedBeat's scheduler, made to survive a Redis that is away for a while."""

import logging
from types import SimpleNamespace
from typing import Any, NoReturn

import redis
from celery.platforms import signals
from celery.signals import beat_init
from kombu.exceptions import LimitExceeded
from redbeat.schedulers import (  # type: ignore[import-untyped]
    RedBeatScheduler,
    acquire_distributed_beat_lock,
    get_redis,
)
from redis.exceptions import LockError

from kit.connections import begin_process
from kit.queue._schedules import collect_schedules

logger = logging.getLogger(__name__)

REDIS_LOST = (redis.ConnectionError, redis.TimeoutError, LimitExceeded)

# RedBeat takes the lock in a handler of a signal, whose errors Celery hides. Here `tick` takes it.
beat_init.disconnect(acquire_distributed_beat_lock)


@beat_init.connect
def exit_before_closing(**_: object) -> None:
    """Make SIGTERM and SIGINT raise `SystemExit`; the scheduler is closed after that, not within.

    Celery's own handler closes it at once. If the signal arrives while this process takes a
    connection out of its pool, closing would wait for ever for the lock that the interrupted code
    holds.
    """
    signals.update(SIGTERM=_end, SIGINT=_end)


def _end(*_: object) -> NoReturn:
    raise SystemExit  # on whose way out Celery closes the scheduler


class Scheduler(RedBeatScheduler):  # type: ignore[misc]
    """Keeps the schedule and the times of the last runs in Redis, across restarts of both sides.

    RedBeat ends when Redis drops its connection, and when its lock is lost, as it is after each
    restart of a Redis without persistence. This one waits and takes the lock again. Where two beats
    run, the one without the lock is on standby and sends nothing. The one that takes the lock
    writes the schedule again if Redis has lost it: the other may never get the lock.
    """

    lock: Any
    _is_written = False

    def setup_schedule(self) -> None:
        """Begin the process as a beat, and write the collected schedule to Redis.

        Raises:
            StartupError: when the plan or Redis has no room for a beat.
            ScheduleError: when a `schedules.py` is broken.
        """
        begin_process("beat")
        try:
            self._write_schedule()
        except REDIS_LOST as error:
            # Waiting here would make beat ignore the signal that ends it: Celery's handler needs
            # the scheduler, which is still being made here. `tick` writes the schedule later.
            self._report_lost(error)

    def _write_schedule(self) -> None:
        """Write the collected schedule to Redis, and remove entries that the code no longer has."""
        self.app.conf.beat_schedule.update(collect_schedules())
        super().setup_schedule()
        self._is_written = True

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send the tasks that are due; returns the seconds until the next tick."""
        try:
            if self.lock is None:
                self._take_lock()
            seconds: float = super().tick(*args, **kwargs)
        except LockError:
            self.lock = None
            return 0
        except REDIS_LOST as error:
            self._report_lost(error)
            return float(self.max_interval)
        return seconds

    def close(self) -> None:
        """Release the lock, so that a beat on standby need not wait for it to expire."""
        try:
            super().close()
        except REDIS_LOST as error:
            self._report_lost(error)

    def _take_lock(self) -> None:
        logger.info("Waiting for the lock, which one beat at a time holds")
        acquire_distributed_beat_lock(SimpleNamespace(scheduler=self))
        try:
            self._restore_lost_schedule()
        except REDIS_LOST:
            self.lock = None
            raise

    def _restore_lost_schedule(self) -> None:
        if self._is_written:
            statics_key = self.app.redbeat_conf.statics_key
            if get_redis(self.app).exists(statics_key) or not self.app.conf.beat_schedule:
                return
            logger.error(
                "Redis has lost its data: waiting tasks and the times of the last runs are lost. "
                "Beat writes the schedule again"
            )
        self._write_schedule()

    def _report_lost(self, error: Exception) -> None:
        logger.warning("Redis is lost (%s); beat tries again in %g s", error, self.max_interval)
