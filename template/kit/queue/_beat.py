"""Beat: RedBeat's scheduler, made to outlive a Redis that goes and comes back."""

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

# RedBeat takes the lock in a signal's handler, whose errors Celery hides. `tick` takes it here.
beat_init.disconnect(acquire_distributed_beat_lock)


@beat_init.connect
def end_where_nothing_is_held(**_: object) -> None:
    """Have the signals that end beat close the scheduler after what they interrupt, not within.

    Celery's own handler closes it at once. Where the signal comes while this process takes a
    connection out of its pool, that would wait for ever for what it has itself interrupted.
    """
    signals.update(SIGTERM=_end, SIGINT=_end)


def _end(*_: object) -> NoReturn:
    raise SystemExit  # on whose way out Celery closes the scheduler


class Scheduler(RedBeatScheduler):  # type: ignore[misc]
    """Keeps the schedule and the times of the last runs in Redis, over restarts of both sides.

    RedBeat ends when Redis drops its connection, and when its lock is gone, as it is after each
    restart of a Redis that keeps nothing. This one waits and takes the lock again. Where two beats
    run, the one without the lock waits for it and sends nothing. Whichever gets it writes the
    schedule again if Redis has lost it: the other one may never get its turn.
    """

    lock: Any
    _is_written = False

    def setup_schedule(self) -> None:
        """Start as a beat: write the collected schedule to Redis.

        Raises:
            StartupError: when plan or server have no room for a beat.
            ScheduleError: when a `schedules.py` is broken.
        """
        begin_process("beat")
        try:
            self._write_schedule()
        except REDIS_LOST as error:
            # Waiting here would make beat deaf to the signal that ends it: Celery's handler asks
            # for the scheduler, which this is still making. `tick` writes it later.
            self._report_lost(error)

    def _write_schedule(self) -> None:
        """Write the collected schedule to Redis, and take out what left the code."""
        self.app.conf.beat_schedule.update(collect_schedules())
        super().setup_schedule()
        self._is_written = True

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due; gives the seconds until the next look."""
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
        """Give the lock back, so that another beat need not wait for it to expire."""
        try:
            super().close()
        except REDIS_LOST as error:
            self._report_lost(error)

    def _take_lock(self) -> None:
        logger.info("Asking for the lock, which one beat at a time has")
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
                "Redis has lost its data: tasks that were waiting are gone, and so are the times "
                "of the last runs. Beat writes the schedule again"
            )
        self._write_schedule()

    def _report_lost(self, error: Exception) -> None:
        logger.warning("Redis is lost (%s); beat looks again in %g s", error, self.max_interval)
