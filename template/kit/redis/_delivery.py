"""Tasks on their way: what is refused before it is sent, and how a worker takes what was.

kombu takes it with one command and notes it as unacknowledged with the next. In between it is
nowhere but on the network: when Redis, the link or the worker dies just then, the task is lost,
although its sender has a confirmation (https://github.com/celery/kombu/issues/305 is one of the
reports). Here one script does both, so the message is always in Redis until it is acknowledged:
one that did not arrive is redelivered after the visibility timeout.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis
from kombu.utils.json import JSONEncoder

from kit.settings import settings


class TaskRefusedError(ValueError):
    """A task was not sent; the message says why, and what to do instead."""


class PayloadTooLargeError(TaskRefusedError):
    """A task's arguments are larger than `CELERY_PAYLOAD_LIMIT`."""


class DelayTooLongError(TaskRefusedError):
    """A task is to wait so long that it would be redelivered to a second worker meanwhile."""


def refuse_large_payload(name: str, args: Any, kwargs: Any, options: Mapping[str, Any]) -> None:
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
    delay = countdown or 0 if eta is None else seconds_until(eta)
    if delay > longest:
        raise DelayTooLongError(
            f"{name} is to wait {delay:.0f} s, but {longest} s are the most: waiting and running "
            f"(CELERY_TASK_MAX_SECONDS, {settings.CELERY_TASK_MAX_SECONDS}) have to fit into "
            f"CELERY_VISIBILITY_TIMEOUT ({settings.CELERY_VISIBILITY_TIMEOUT}), or a second worker "
            "would run it too; use a schedule, or raise CELERY_VISIBILITY_TIMEOUT"
        )


def seconds_until(eta: datetime | str) -> float:
    """Seconds from now to a moment; one without a time zone is taken as UTC."""
    moment = datetime.fromisoformat(eta) if isinstance(eta, str) else eta
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime.now(UTC)).total_seconds()


_TAKE = """
local unacknowledged, times, now = KEYS[1], KEYS[2], ARGV[1]

local function first_with_messages()
  for position = 3, #KEYS do
    if redis.call('EXISTS', KEYS[position]) == 1 then return KEYS[position] end
  end
end

local function note(message)
  local properties = cjson.decode(message).properties
  local tag, origin = properties.delivery_tag, properties.delivery_info
  local entry = {message, cjson.encode(origin.exchange), cjson.encode(origin.routing_key)}
  redis.call('HSET', unacknowledged, tag, '[' .. table.concat(entry, ',') .. ']')
  redis.call('ZADD', times, now, tag)
end

local queue = first_with_messages()
if not queue then return false end
-- First, since it needs no memory: what comes after the first write works on a full Redis too.
local message = redis.call('RPOP', queue)
pcall(note, message)  -- one that is not kombu's is dropped, and the worker logs it
return {queue, message, first_with_messages() or queue}
"""


@dataclass(frozen=True)
class Delivery:
    """A message that was taken off its queue."""

    queue_key: str
    message: str
    """JSON, in kombu's form."""
    next_queue_key: str
    """Where to wait for the next one: a queue that is not empty, if there is one."""


def take_message(
    client: redis.Redis, queue_keys: Sequence[str], unacknowledged_key: str, times_key: str
) -> Delivery | None:
    """Take the oldest message of the first queue that has any, and note it as unacknowledged.

    Args:
        client: for the command; its replies have to be text.
        queue_keys: whole keys of the queues, in the order in which they are tried.
        unacknowledged_key: whole key of kombu's hash of unacknowledged messages.
        times_key: whole key of the sorted set with the times at which they were taken.

    Returns:
        None when all queues are empty.

    Raises:
        redis.RedisError: when Redis does not answer; the message is then in its queue, or noted.
        RedisPoolBusyError: when no connection is free in time; nothing was taken.
    """
    take = client.register_script(_TAKE)
    answer = take(keys=[unacknowledged_key, times_key, *queue_keys], args=[time.time()])
    return Delivery(*answer) if answer else None
