"""Take a message off its queue such that it cannot be lost on the way to the worker.

kombu takes it with one command and notes it as unacknowledged with the next. In between it is
nowhere but on the network: when Redis, the link or the worker dies just then, the task is lost,
although its sender has a confirmation (https://github.com/celery/kombu/issues/305 is one of the
reports). Here one script does both, so the message is always in Redis until it is acknowledged:
one that did not arrive is redelivered after the visibility timeout.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import redis

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
    client: redis.Redis,
    queue_keys: Sequence[str],
    *,
    unacknowledged_key: str,
    times_key: str,
    now: float,
) -> Delivery | None:
    """Take the oldest message of the first queue that has any, and note it as unacknowledged.

    Args:
        client: for the command; its replies have to be text.
        queue_keys: whole keys of the queues, in the order in which they are tried.
        unacknowledged_key: whole key of kombu's hash of unacknowledged messages.
        times_key: whole key of the sorted set with the times at which they were taken.
        now: Unix time, in seconds.

    Returns:
        None when all queues are empty.

    Raises:
        redis.RedisError: when Redis does not answer; the message is then in its queue, or noted.
        RedisPoolBusyError: when no connection is free in time; nothing was taken.
    """
    take = client.register_script(_TAKE)
    answer = take(keys=[unacknowledged_key, times_key, *queue_keys], args=[now])
    return Delivery(*answer) if answer else None
