"""The kit's own tasks, what shows that they run, and the schedule by which beat sends all tasks.

The service's entries are in `app/tasks/schedules.py`, an extension's in its `tasks/schedules.py`,
each as a dictionary `SCHEDULES` of Celery's beat entries; the kit has its own here. Keys get a
prefix (`service.close-orders`, `hotel.daily-task`, `core.heartbeat`), so none replaces another's.

Beat has RedBeat's scheduler, made to survive a Redis that is away for a while.
"""

import importlib
import importlib.util
import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, NoReturn, TypedDict

import redis
from celery import shared_task
from celery.platforms import signals
from celery.schedules import crontab
from celery.schedules import schedule as interval
from celery.signals import beat_init
from kombu.exceptions import LimitExceeded
from kombu.utils.json import JSONEncoder
from redbeat.schedulers import (  # type: ignore[import-untyped]
    RedBeatScheduler,
    acquire_distributed_beat_lock,
    get_redis,
)
from redbeat.schedules import rrule  # type: ignore[import-untyped]
from redis.exceptions import LockError

from kit.connections import begin_process, redis_limit
from kit.context import get_request_id, get_task_id
from kit.discovery import last_line_in
from kit.extensions import enabled_extensions
from kit.models import AuditEntry
from kit.outbox import delete_old
from kit.places import service
from kit.queue._app import BEAT_LOCK_SECONDS
from kit.redis import (
    COUNTS_KEY,
    DEAD_LETTERS_KEY,
    SENT_AT,
    UNACKNOWLEDGED_KEY,
    RedisPoolBusyError,
    queue_keys,
    redis_client,
    run_redis_call,
)
from kit.settings import BASE_DIR, StartupError, settings

logger = logging.getLogger(__name__)


class Pong(TypedDict):
    """The result of `ping`."""

    message: str
    request_id: str


@shared_task(name=f"{settings.CELERY_TASKS_MODULE}.ping")
def ping(message: str) -> Pong:
    """Return the message, with the id of the request that sent the task."""
    logger.info("%spong: %s", get_task_id(), message)
    return Pong(message=message, request_id=get_request_id())


HEARTBEAT_KEY = f"{settings.REDIS_KEY_PREFIX}heartbeat"
"""Holds the Unix time of the last heartbeat."""

UNNAMED_PROXY_KEY = f"{settings.REDIS_KEY_PREFIX}unnamed-proxy"
UNNAMED_PROXY = (
    "reports callers' addresses in X-Forwarded-For, but FORWARDED_ALLOW_IPS does not name it. If "
    "it is your proxy, add its address or network there."
)
DAY_SECONDS = 24 * 3600

HEARTBEAT_SECONDS = 60
"""Interval at which beat sends the task; the key expires after three missed ones."""


@shared_task(name=f"{settings.CELERY_TASKS_MODULE}.heartbeat", ignore_result=True)
def heartbeat() -> None:
    """Store the time, which proves that beat sent this task and a worker ran it."""
    redis_client().set(HEARTBEAT_KEY, f"{time.time():.3f}", ex=3 * HEARTBEAT_SECONDS)


@shared_task(name=f"{settings.CELERY_TASKS_MODULE}.delete_old_audit")
def delete_old_audit() -> int:
    """Delete audit entries of more than `AUDIT_KEEP_DAYS` ago, and return how many."""
    if settings.AUDIT_KEEP_DAYS is None:
        return 0
    # Log-in throttling counts the failures within its window.
    days = max(settings.AUDIT_KEEP_DAYS, settings.ADMIN_LOGIN_WINDOW / DAY_SECONDS)
    deleted = delete_old(AuditEntry, days=days, unfinished=(), since="occurred_at")
    logger.info("%s%d entries of the audit deleted", get_task_id(), deleted)
    return deleted


SCHEDULES: dict[str, dict[str, Any]] = {
    "heartbeat": {
        "task": heartbeat.name,
        "schedule": HEARTBEAT_SECONDS,
        # Without a worker they would pile up, all of them out of date.
        "options": {"expires": HEARTBEAT_SECONDS},
    },
    "delete-old-audit": {"task": delete_old_audit.name, "schedule": crontab(hour="4", minute="0")},
}


@dataclass(frozen=True)
class QueueStatus:
    """Tasks that wait in one queue."""

    name: str
    waiting: int
    oldest_age_seconds: float | None
    """Since the oldest one was sent; None where none waits, or its sender is of an older kit."""


@dataclass(frozen=True)
class RedisStatus:
    """The state of Redis. A value that the plan does not show is None."""

    version: str
    used_memory_bytes: int
    memory_limit_bytes: int | None
    """None where the server has no limit of its own."""
    eviction_policy: str
    """Any policy but `noeviction` lets Redis evict waiting tasks or results."""
    connected_clients: int
    connection_limit: int
    """The lower of the server's limit and `REDIS_CONNECTION_LIMIT`."""
    connection_limit_name: str
    """The name of the lower one."""
    beat_lock_age_seconds: float | None
    """Time since beat last renewed its lock; None when no beat holds the lock."""
    heartbeat_age_seconds: float | None
    """Time since a worker last ran beat's heartbeat task; None after three minutes."""
    dead_letters: int = 0
    """Tasks that were given up."""
    is_persistent: bool | None = None
    """Whether each write is appended to a file; None where the server does not say."""
    unnamed_proxy: str = ""
    """Address of a proxy that the API noticed within a day, see `UNNAMED_PROXY`."""
    operations_per_second: int = 0
    """As the server measures them, those of all its clients."""
    queues: tuple[QueueStatus, ...] = ()
    unacknowledged: int = 0
    """Tasks that workers have: those that run, and those that wait for their time."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """How often each rare event happened since Redis was empty, see `kit.redis.count_event`."""

    @property
    def is_heartbeat_late(self) -> bool:
        """Whether no worker has run beat's heartbeat for more than two of its intervals."""
        age = self.heartbeat_age_seconds
        return age is None or age > 2.5 * HEARTBEAT_SECONDS


def read_redis_status() -> RedisStatus:
    """Read the state of Redis, on one connection of this process's pool.

    Raises:
        redis.RedisError: when it cannot be reached.
    """
    keys = [key for name in queue_names() for key in queue_keys(name)]
    pipe: Any = redis_client().pipeline(transaction=False)
    pipe.info().pttl(f"{service.celery_app.conf.redbeat_key_prefix}:lock")
    pipe.get(HEARTBEAT_KEY).get(UNNAMED_PROXY_KEY).llen(DEAD_LETTERS_KEY)
    pipe.hlen(UNACKNOWLEDGED_KEY).hgetall(COUNTS_KEY)
    for key in keys:
        pipe.llen(key)
    answers: Any = pipe.execute()
    information, lock_milliseconds, heartbeat, proxy, dead, taken, counts, *lengths = answers
    limit, limit_name = redis_limit(information)
    return RedisStatus(
        version=information["redis_version"],
        used_memory_bytes=information["used_memory"],
        memory_limit_bytes=information.get("maxmemory") or None,
        eviction_policy=information.get("maxmemory_policy", "unknown"),
        connected_clients=information["connected_clients"],
        connection_limit=limit,
        connection_limit_name=limit_name,
        beat_lock_age_seconds=(
            BEAT_LOCK_SECONDS - lock_milliseconds / 1000 if lock_milliseconds > 0 else None
        ),
        heartbeat_age_seconds=max(0.0, time.time() - float(heartbeat)) if heartbeat else None,
        dead_letters=dead,
        is_persistent=bool(information["aof_enabled"]) if "aof_enabled" in information else None,
        unnamed_proxy=proxy or "",
        operations_per_second=information.get("instantaneous_ops_per_sec", 0),
        queues=tuple(_queues(dict(zip(keys, lengths, strict=True)))),
        unacknowledged=taken,
        counts={event: int(count) for event, count in counts.items()},
    )


def queue_names() -> list[str]:
    """Names of the queues that Celery's `task_queues` and a mapping in `task_routes` name."""
    routes = service.celery_app.conf.task_routes
    routed = routes.values() if isinstance(routes, Mapping) else ()
    named = {each["queue"] for each in routed if isinstance(each, Mapping) and "queue" in each}
    return sorted({*service.celery_app.amqp.queues, *(getattr(n, "name", n) for n in named)})


def _queues(lengths: Mapping[str, int]) -> list[QueueStatus]:
    """Add the age of the oldest message, which only queues are asked for that are not empty."""
    full = [key for key, length in lengths.items() if length]
    pipe = redis_client().pipeline(transaction=False)
    for key in full:
        pipe.lindex(key, -1)
    oldest = dict(zip(full, pipe.execute(), strict=True))
    found = []
    for name in queue_names():
        keys = queue_keys(name)
        ages = [age for key in keys if (age := _age(oldest.get(key))) is not None]
        waiting = sum(lengths[key] for key in keys)
        found.append(QueueStatus(name, waiting, max(ages, default=None)))
    return found


def _age(message: str | None) -> float | None:
    try:
        sent_at = json.loads(message or "")["headers"][SENT_AT]
        return max(0.0, time.time() - float(sent_at))
    except (ValueError, LookupError, TypeError):  # taken meanwhile, or not of this kit
        return None


async def remember_unnamed_proxy(address: str) -> None:
    """Keep the address for `make doctor`, which may run elsewhere; not where Redis is away."""
    with suppress(redis.RedisError, RedisPoolBusyError):
        await run_redis_call(lambda: redis_client().set(UNNAMED_PROXY_KEY, address, ex=DAY_SECONDS))


ENTRY_KEYS = frozenset({"task", "schedule", "args", "kwargs", "options"})


class ScheduleError(StartupError):
    """A `schedules.py` is broken; the message names the file and the entry."""


def collect_schedules() -> dict[str, dict[str, Any]]:
    """Collect the entries of the kit, the service and the enabled extensions, by their full keys.

    Raises:
        ScheduleError: when a `schedules.py` cannot be imported, has no `SCHEDULES`, or has an
            entry with an unknown task or an invalid schedule.
    """
    service.celery_app.loader.import_default_modules()
    service.celery_app.finalize()
    entries = {}
    for owner, module_name in _schedule_modules():
        for name, entry in _read(module_name).items():
            _check(module_name, name, entry)
            entries[f"{owner}.{name}"] = entry
    return entries


def _schedule_modules() -> Iterator[tuple[str, str]]:
    yield "core", "kit.queue._tasks"
    if importlib.util.find_spec("app.tasks.schedules") is not None:
        yield "service", "app.tasks.schedules"
    for extension in enabled_extensions():
        package = f"app.extensions.{extension}.tasks"
        if importlib.util.find_spec(package) is None:
            continue
        # A single file `tasks.py` has no `__path__`, and no room for a schedule.
        is_folder = hasattr(importlib.import_module(package), "__path__")
        if is_folder and importlib.util.find_spec(f"{package}.schedules") is not None:
            yield extension, f"{package}.schedules"


def _read(module_name: str) -> dict[str, Any]:
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        where = last_line_in(BASE_DIR / "app", error)
        raise ScheduleError(
            f"cannot import {module_name}: {where}: {type(error).__name__}: {error}"
        ) from error
    schedules = getattr(module, "SCHEDULES", None)
    if not isinstance(schedules, dict):
        file = module_name.replace(".", "/") + ".py"
        raise ScheduleError(
            f"{file} defines no dictionary SCHEDULES; define one, or remove the file."
        )
    return schedules


def _check(module_name: str, name: str, entry: Any) -> None:
    where = f"{module_name.replace('.', '/')}.py: entry {name!r}"
    if not isinstance(entry, dict) or not {"task", "schedule"} <= entry.keys() <= ENTRY_KEYS:
        raise ScheduleError(
            f"{where} is {entry!r}, expected a dictionary with task and schedule, and at most "
            f"{', '.join(sorted(ENTRY_KEYS - {'task', 'schedule'}))}."
        )
    known = service.celery_app.tasks
    if entry["task"] not in known:
        raise ScheduleError(
            f"{where} names the task {entry['task']!r}, which does not exist; tasks: "
            f"{', '.join(sorted(task for task in known if not task.startswith('celery.')))}."
        )
    if not _is_schedule(entry["schedule"]):
        raise ScheduleError(
            f"{where} has the schedule {entry['schedule']!r}, expected seconds above 0, a "
            "timedelta, a crontab or an rrule of redbeat."
        )
    if getattr(entry["schedule"], "nowfun", None):
        raise ScheduleError(
            f"{where} has a schedule with `nowfun`, which RedBeat does not keep: it would run at "
            f"that time of CELERY_TIMEZONE, {settings.CELERY_TIMEZONE}. For another time zone let "
            "it run each hour, and have the task look at `datetime.now(ZoneInfo(…)).hour`."
        )
    try:
        json.dumps([entry.get(key) for key in ("args", "kwargs", "options")], cls=JSONEncoder)
    except TypeError as error:
        raise ScheduleError(f"{where} cannot be kept as JSON: {error}.") from None


def _is_schedule(value: object) -> bool:
    if isinstance(value, int | float):
        return value > 0 and not isinstance(value, bool)
    if isinstance(value, timedelta):
        return value > timedelta()
    return isinstance(value, crontab | interval | rrule)


REDIS_LOST = (redis.RedisError, LimitExceeded)

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
