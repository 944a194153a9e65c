"""Celery's broker, results and remote control on the process's one pool of Redis connections.

kombu's and Celery's own classes open connections for every thread, every channel and every result:
beyond any setting. Those here send all commands through `kit.redis._pool`.

They override private methods, all of them in this one file. The kit's tests name each and what is
relied on (`core/test_library_internals.py`), and others count the connections that the server sees,
so a change of those methods does not go unnoticed.

What cannot be carried is refused before it is sent. kombu takes a message with one command and
notes it as unacknowledged with the next. In between it is nowhere but on the network: when Redis,
the link or the worker dies just then, the task is lost, although its sender has a confirmation
(https://github.com/celery/kombu/issues/305 is one of the reports). Here one script does both, so
the message is always in Redis until it is acknowledged: one that did not arrive is redelivered
after the visibility timeout.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from queue import Empty
from types import SimpleNamespace
from typing import Any

import redis
from celery import states
from celery.app.control import Control as CeleryControl
from celery.backends.base import SyncBackendMixin
from celery.backends.redis import RedisBackend
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.utils.serialization import UnpickleableExceptionWrapper
from kombu.exceptions import DecodeError, EncodeError
from kombu.pidbox import Mailbox as KombuMailbox
from kombu.serialization import prepare_accept_content
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport import redis as kombu_redis
from kombu.utils.json import JSONEncoder, dumps, loads
from pydantic_core import to_json

from kit.process import client_name, mask_secrets, this_process
from kit.redis._pool import RedisPoolBusyError, closing_abandoned, count_event, redis_client
from kit.settings import settings

logger = logging.getLogger(__name__)


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
        countdown: seconds to wait; Celery prefers it to `eta`.
        eta: moment to wait for; one without a time zone is taken as UTC, as Celery takes it.

    Raises:
        DelayTooLongError: when it would wait longer.
    """
    longest = settings.CELERY_VISIBILITY_TIMEOUT - settings.CELERY_TASK_MAX_SECONDS
    delay = countdown or (0 if eta is None else seconds_until(eta))
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


WAITING_CHECK_INTERVAL = 10
"""Seconds between tests of idle connections that wait for messages: no command would notice that
one is dead."""

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.2
"""Back-off in seconds between two polls for workers' answers, doubled each time: most answers come
at once, and small plans limit the commands per second."""

# The methods overridden below are private, so no stub has them: the bases are typed as Any.
_KombuChannel: Any = kombu_redis.Channel
_KombuQoS: Any = kombu_redis.QoS
_KombuPoller: Any = kombu_redis.MultiChannelPoller
_KombuTransport: Any = kombu_redis.Transport
_CeleryBackend: Any = RedisBackend
_KombuMailbox: Any = KombuMailbox


DELIVERY_COUNT = "x-delivery-count"
"""Header with the number of deliveries that did not end; RabbitMQ's quorum queues have it too."""

UNKNOWN_SINCE = "x-unknown-since"
"""Header with the Unix time at which a worker first did not know a message's task."""

SENT_AT = "x-sent-at"
"""Header with the Unix time at which a task was sent."""

DEAD_LETTERS_KEY = f"{settings.REDIS_KEY_PREFIX}dead-letters"
MOST_DEAD_LETTERS = 100
"""Beyond which the oldest are dropped: at 64 KiB each, they take a fifth of a free plan."""

REDELIVERED, GIVEN_UP = "tasks-redelivered", "tasks-given-up"
"""Events that are counted, see `count_event`."""

_finished_tags: set[str] = set()
"""Messages whose tasks have ended, until they are acknowledged in Redis."""


class QoS(_KombuQoS):  # type: ignore[misc]
    """kombu's record of unacknowledged messages, which survives an unreachable Redis.

    kombu's own goes on counting a message that it could not acknowledge. A worker that may have one
    message at a time then waits for ever: connected, and taking nothing. Here the message ends for
    this process, and is acknowledged as soon as Redis answers again.
    """

    noted_tag: str | None = None
    """The message that `take_message` has noted in Redis already."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._last_deliveries: set[str] = set()

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message; later, if Redis does not answer now."""
        virtual.QoS.ack(self, delivery_tag)
        _finished_tags.add(delivery_tag)
        try:
            self.acknowledge_finished()
        except (redis.RedisError, RedisPoolBusyError) as error:
            logger.warning("cannot acknowledge an ended task in Redis yet: %s", error)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Requeue a message, or drop it; one that Redis does not let go is redelivered in time."""
        try:
            super().reject(delivery_tag, requeue=requeue)
        except (redis.RedisError, RedisPoolBusyError) as error:
            self.leave(delivery_tag)
            logger.warning("a rejected task stays in Redis, and is redelivered: %s", error)

    def acknowledge_finished(self) -> None:
        """Acknowledge all messages that have ended since Redis last answered."""
        if tags := _finished_tags.copy():
            # No transaction, which would double the commands: a message that is left in the index
            # alone cannot run again, and kombu's next sweep for lost tasks drops it.
            pipe = redis_client().pipeline(transaction=False)
            messages, times = self.channel.unacknowledged_keys
            pipe.hdel(messages, *tags)
            pipe.zrem(times, *tags)
            pipe.execute()
            _finished_tags.difference_update(tags)

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message, in this process and in Redis."""
        if delivery_tag == self.noted_tag:
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)
        if settings.CELERY_MAX_DELIVERIES - 1 <= delivery_count(message) > 0:
            self._last_deliveries.add(delivery_tag)

    def can_consume(self) -> bool:
        """Whether to take a message; none beside one on its last delivery.

        What ran beside a task that kills its worker, at each of its deliveries, would be given up
        together with it.
        """
        self._last_deliveries &= self._delivered.keys()
        return not self._last_deliveries - self._dirty and bool(super().can_consume())

    def restore_visible(self, *arguments: Any, **options: Any) -> None:
        """Requeue what lost workers have left; not on a full Redis, which has no room for it."""
        with suppress(redis.OutOfMemoryError):
            super().restore_visible(*arguments, **options)

    def restore_unacked(self, client: Any = None) -> None:
        """Requeue the messages of a worker that stops, which is no failed delivery of theirs."""
        self.channel.counts_deliveries = False
        super().restore_unacked(client)

    def postpone(self, message: Any, seconds: float) -> None:
        """Leave a message, with its headers of now, to the sweep that is due in so many seconds."""
        message.headers[DELIVERY_COUNT] = delivery_count(message) - 1  # the sweep counts one
        tag, due = message.delivery_tag, time.time() + seconds - self.visibility_timeout
        messages, times = self.channel.unacknowledged_keys
        pipe = redis_client().pipeline()
        pipe.hset(messages, tag, dumps(_as_noted(message)))
        pipe.zadd(times, {tag: due})
        pipe.execute()
        self.leave(tag)

    def bury(self, message: Any, reason: str) -> None:
        """Make a message a dead letter: in one transaction, so that it is neither lost nor both."""
        letter = {"given_up_at": time.time(), "reason": reason, "message": _as_noted(message)}
        tag = message.delivery_tag
        messages, times = self.channel.unacknowledged_keys
        pipe = redis_client().pipeline()
        pipe.lpush(DEAD_LETTERS_KEY, dumps(letter))
        pipe.ltrim(DEAD_LETTERS_KEY, 0, MOST_DEAD_LETTERS - 1)
        count_event(GIVEN_UP, pipe)
        pipe.hdel(messages, tag)
        pipe.zrem(times, tag)
        pipe.execute()
        self.leave(tag)

    def leave(self, delivery_tag: str) -> None:
        """End a message for this process alone; Redis has it, and redelivers it when it is due."""
        virtual.QoS.ack(self, delivery_tag)


def delivery_count(message: Any) -> int:
    """Deliveries of a message that did not end, this one not among them."""
    return int((message.headers or {}).get(DELIVERY_COUNT, 0))


def _as_noted(message: Any) -> list[Any]:
    """A message in kombu's form for unacknowledged ones, with its headers of now."""
    origin = message.delivery_info
    raw = message._raw | {"headers": message.headers}  # noqa: SLF001
    return [raw, origin["exchange"], origin["routing_key"]]


class Channel(_KombuChannel):  # type: ignore[misc]
    """kombu's channel, with all its commands on the shared pool.

    kombu gives each channel two pools. The one here called asynchronous holds the connections that
    wait for messages, and stays the channel's own.

    On those, kombu waits with BRPOP, which takes the message. Here BLMOVE from a queue to itself
    waits, which takes nothing, and `take_message` takes it.
    """

    QoS = QoS
    connection_class = closing_abandoned(_KombuChannel.connection_class)
    connection_class_ssl = closing_abandoned(_KombuChannel.connection_class_ssl)
    keyprefix_fanout: str
    counts_deliveries = True
    _acknowledges = True
    _next_queue_key: str | None = None
    _shared_client: Any = None

    def _get_pool(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._get_pool(asynchronous=True)
        database = self._prepare_virtual_host(self.connection.client.virtual_host)
        self.keyprefix_fanout = self.keyprefix_fanout.format(db=database)
        return redis_client().connection_pool

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        parameters: dict[str, Any] = super()._connparams(asynchronous=asynchronous)
        return parameters | {"client_name": client_name(settings, this_process.role)}

    def _create_client(self, asynchronous: bool = False) -> Any:
        if not asynchronous:
            # kombu makes a client for each command: a fifth of the time that sending a task takes.
            if self._shared_client is None or self._shared_client.connection_pool is not self.pool:
                self._shared_client = super()._create_client()
            return self._shared_client
        client = super()._create_client(asynchronous=True)
        # Each new channel pings; on this client that would open a connection for nothing.
        client.ping = self._create_client().ping
        return client

    def _disconnect_pools(self) -> None:
        self._pool = None  # a channel that closes must not close the shared pool
        super()._disconnect_pools()

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        # A worker that starts could not work a full Redis off. Tasks are sent to queues by name,
        # and kombu renews the bindings of remote control.
        with suppress(redis.OutOfMemoryError):
            super()._queue_bind(exchange, routing_key, pattern, queue)

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        """Begin to receive a queue's messages."""
        if no_ack and queue not in self._fanout_queues:
            self._acknowledges = False
        return super().basic_consume(queue, no_ack, *args, **kwargs)

    def _delete(self, *args: Any, **kwargs: Any) -> None:
        # kombu's `close` names the client that waits for messages, which would open one more.
        super()._delete(*args, **kwargs | {"client": None})

    def close(self) -> None:
        """Close the channel; messages that it waits for stay in their queue."""
        self._in_poll = None  # kombu would wait for the answer, on a dead link for ever
        super().close()

    def _brpop_start(self, timeout: float | None = None) -> None:
        if not self._acknowledges:
            super()._brpop_start(timeout)
        elif keys := self._queue_keys():
            key = self._next_queue_key or keys[0]
            connection = self._in_poll = self.client.connection
            self._brpop_sent_at = time.monotonic()
            connection.send_command(
                *("BLMOVE", key, key, "RIGHT", "RIGHT", timeout or self.brpop_timeout)
            )

    def _brpop_read(self, **options: Any) -> bool:
        if not self._acknowledges:
            return bool(super()._brpop_read(**options))
        try:
            has_waited = self._read_wake_up(options)
            try:
                self._deliver_next()
            except Empty:
                if not has_waited:
                    time.sleep(self.brpop_timeout)
                raise
        finally:
            self._in_poll = None
        return True

    def _read_wake_up(self, options: dict[str, Any]) -> bool:
        """Whether Redis let this process wait; a full Redis refuses that, but not the taking."""
        connection = self.client.connection
        try:
            self.client.parse_response(connection, "BLMOVE", **options)
        except redis.OutOfMemoryError:
            return False
        except self.connection_errors:
            connection.disconnect()
            raise
        return True

    def _deliver_next(self) -> None:
        self._next_queue_key = None
        self.qos.acknowledge_finished()
        delivery = take_message(redis_client(), self._queue_keys(), *self.unacknowledged_keys)
        if delivery is None:
            raise Empty
        self._next_queue_key = delivery.next_queue_key
        key = delivery.queue_key.removeprefix(self.global_keyprefix)
        queue = key.rsplit(self.sep, 1)[0]
        self._queue_cycle.rotate(queue)
        try:
            message = loads(delivery.message)
            self.qos.noted_tag = message["properties"]["delivery_tag"]
        except (ValueError, LookupError, TypeError):
            logger.exception("dropped from %s what is no message: %.200r", queue, delivery.message)
            raise Empty from None
        self.connection._deliver(message, queue)  # noqa: SLF001

    def send_again(self, letter: str) -> None:
        """Requeue a dead letter, given as stored, as if it had never been delivered."""
        message, exchange, routing_key = loads(letter)["message"]
        message["headers"].pop(UNKNOWN_SINCE, None)
        message["headers"][DELIVERY_COUNT] = -1  # requeueing counts one
        with self.conn_or_acquire() as client, client.pipeline() as pipe:
            self._do_restore_message(message, exchange, routing_key, pipe, leftmost=True)
            pipe.lrem(DEAD_LETTERS_KEY, 1, letter)
            pipe.execute()

    def _do_restore_message(
        self, payload: Any, exchange: str, routing_key: str, pipe: Any, leftmost: bool = False
    ) -> None:
        if self.counts_deliveries:
            headers = payload["headers"] = payload.get("headers") or {}
            headers[DELIVERY_COUNT] = headers.get(DELIVERY_COUNT, 0) + 1
            if headers[DELIVERY_COUNT] > 0:
                count_event(REDELIVERED, pipe)
        super()._do_restore_message(payload, exchange, routing_key, pipe, leftmost)

    @property
    def unacknowledged_keys(self) -> tuple[str, str]:
        """Whole keys of kombu's hash of unacknowledged messages, and of when they were taken."""
        return self._whole_key(self.unacked_key), self._whole_key(self.unacked_index_key)

    def _whole_key(self, key: str) -> str:
        # kombu's own clients add the prefix; the shared one does not.
        return f"{self.global_keyprefix}{key}"

    def _queue_keys(self) -> list[str]:
        queues = self._queue_cycle.consume(len(self.active_queues))
        return [
            self._whole_key(self._q_for_pri(queue, priority))
            for priority in self.priority_steps
            for queue in queues
        ]


UNACKNOWLEDGED_KEY = f"{settings.REDIS_KEY_PREFIX}{_KombuChannel.unacked_key}"
"""A hash of the messages that workers have taken and not acknowledged."""


def queue_keys(queue: str) -> list[str]:
    """Whole keys of a queue's waiting messages: a list for each of kombu's priorities."""
    key = f"{settings.REDIS_KEY_PREFIX}{queue}"
    return [f"{key}{Channel.sep}{step}" if step else key for step in Channel.priority_steps]


class Poller(_KombuPoller):  # type: ignore[misc]
    """kombu's poller, which tests the connections of subscriptions without an event loop too.

    Flower has no event loop. The connection on which it waits for events would stay silent for ever
    after a link has died.
    """

    _checked_at = 0.0

    def get(self, *args: Any, **kwargs: Any) -> None:
        """Wait for one message."""
        now = time.monotonic()
        if now - self._checked_at >= WAITING_CHECK_INTERVAL:
            self._checked_at = now
            self.maybe_check_subclient_health()
        super().get(*args, **kwargs)


class Transport(_KombuTransport):  # type: ignore[misc]
    """kombu's Redis transport with the channel and the poller above."""

    Channel = Channel

    # The errors after which a sender retries. Not a timeout: the message may have arrived and would
    # run twice, and a stalled server would block the sender for a minute.
    recoverable_connection_errors = tuple(
        {*kombu_redis.Transport.connection_errors} - {redis.TimeoutError}
    )
    recoverable_channel_errors = kombu_redis.Transport.channel_errors

    # The errors that a worker survives by reconnecting.
    connection_errors = (*kombu_redis.Transport.connection_errors, RedisPoolBusyError)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = Poller()


class Backend(SyncBackendMixin, _CeleryBackend):  # type: ignore[misc]
    """Celery's result backend on the shared pool; it polls for a result instead of subscribing."""

    connection_errors: tuple[type[Exception], ...]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Otherwise a result would be lost while the pool is busy or Redis fails over to a replica.
        self.connection_errors += (RedisPoolBusyError, redis.ReadOnlyError)

    def _get_pool(self, **_parameters: Any) -> Any:
        return redis_client().connection_pool

    def _set_with_state(self, key: Any, value: str, state: str) -> Any:
        if state in states.EXCEPTION_STATES:
            value = mask_secrets(value)  # an error may quote what it was called with
        try:
            return super()._set_with_state(key, value, state)
        except redis.OutOfMemoryError:
            # Raised, it would end the worker; and one that waited for room would not make any.
            logger.error("Redis is full: %s, %s, is not stored", key, state)  # noqa: TRY400

    def prepare_exception(self, exc: BaseException, serializer: str | None = None) -> Any:
        """Prepare an error for storage, so that its kind and its words can be read back.

        Celery keeps the arguments alone, by which not every error is made again: pydantic's
        `ValidationError` has none, and SQLAlchemy's take more than they keep.
        """
        prepared = super().prepare_exception(exc, serializer)
        if type(self.exception_to_python(prepared)).__name__ == type(exc).__name__:
            return prepared
        kind, args = type(exc), prepared["exc_message"]
        wrapper = UnpickleableExceptionWrapper(kind.__module__, kind.__name__, args, str(exc))
        return super().prepare_exception(wrapper, serializer)

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Do nothing: Celery's own subscribes to the result, with a connection for each sender."""

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,  # noqa: ARG002 (the base's signature)
        on_interval: Callable[[], None] | None = None,
    ) -> Any:
        """Wait until a task has ended, and return its stored result; `AsyncResult.get` calls this.

        Args:
            task_id: the task's id.
            timeout: seconds to wait; None for as long as it takes.
            interval: the longest pause between two polls, in seconds.
            no_ack: ignored.
            on_interval: called after each poll without a result.

        Raises:
            celery.exceptions.TimeoutError: when the task has not ended by then.
        """
        started, pause = time.monotonic(), FIRST_PAUSE
        while (meta := self.get_task_meta(task_id))["status"] not in states.READY_STATES:
            if on_interval:
                on_interval()
            left = interval if timeout is None else started + timeout - time.monotonic()
            if left <= 0:
                raise CeleryTimeoutError(f"the task {task_id} has not ended within {timeout:g} s")
            time.sleep(min(pause, interval, left))
            pause *= 2
        return meta

    def _set(self, key: str, value: str, expires: int | None = None) -> None:
        # Celery's own also publishes the result, in a transaction: four commands, although here
        # no one subscribes.
        lasts = self.expires if expires is None else expires
        self.client.set(key, value, ex=lasts or None)

    def encode(self, data: Any) -> Any:
        """Encode a result or a state as it is stored.

        Raises:
            EncodeError: when a result exceeds `CELERY_PAYLOAD_LIMIT`, or could not be read back;
                the task fails with it.
        """
        payload = super().encode(data)
        if not isinstance(data, dict) or data.get("status") != states.SUCCESS:
            return payload  # without a result, as that of a failed task
        if len(payload) > settings.CELERY_PAYLOAD_LIMIT:
            raise EncodeError(
                f"the task's result has {len(payload)} bytes, more than the "
                f"{settings.CELERY_PAYLOAD_LIMIT} of CELERY_PAYLOAD_LIMIT: "
                "store it in the database and return its key"
            )
        try:
            to_json(self.decode(payload)["result"], bytes_mode="base64")
        except (ValueError, DecodeError) as error:
            raise EncodeError(f"the task's result could not be read back: {error}") from error
        return payload


BROKER_ATTEMPTS = {"max_retries": 3, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.5}
"""A sender gets an error within a second when Redis is lost; kombu would retry without end."""


class Mailbox(_KombuMailbox):  # type: ignore[misc]
    """Remote control of workers, which polls for their answers through the shared pool.

    kombu's own waits for them on a connection for each caller, and keeps it for the next question.
    """

    @contextmanager
    def producer_or_acquire(self, producer: Any = None, channel: Any = None) -> Iterator[Any]:
        """Lend a producer that gives up as other senders do."""
        with super().producer_or_acquire(producer, channel) as lent:
            yield SimpleNamespace(publish=partial(lent.publish, retry_policy=BROKER_ATTEMPTS))

    def _collect(
        self,
        ticket: str,
        *,
        limit: int | None = None,
        timeout: float | None = 1,
        callback: Callable[[Any], None] | None = None,
        channel: Any = None,
        accept: list[str] | None = None,
    ) -> list[Any]:
        """Collect answers to one request, until `limit` came, or none for `timeout` seconds."""
        channel = channel or self.connection.default_channel
        queue = self.reply_queue.name
        answers: list[Any] = []
        latest, pause = time.monotonic(), FIRST_PAUSE
        try:
            while limit is None or len(answers) < limit:
                message = _pop(channel, queue, accept or self.accept)
                if message is not None and message.headers.get("ticket") == ticket:
                    self.clock.adjust(message.headers.get("clock") or 0)
                    answers.append(message.payload)
                    latest, pause = time.monotonic(), FIRST_PAUSE
                    if callback:
                        callback(message.payload)
                elif message is None:
                    if timeout is not None and time.monotonic() - latest >= timeout:
                        break
                    time.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
        finally:
            channel.after_reply_message_received(queue)
        return answers


def _pop(channel: Any, queue: str, accept: list[str]) -> Any:
    """Take a queue's next message; None when it is empty. One command, where kombu sends eight."""
    with channel.conn_or_acquire() as client:
        content = client.rpop(queue)
    if content is None:
        return None
    message = channel.Message(loads(content), channel=channel)
    message.accept = prepare_accept_content(accept)
    return message


class Control(CeleryControl):
    """Celery's remote control with the mailbox above."""

    Mailbox = Mailbox


TRANSPORT_ALIASES["redis"] = TRANSPORT_ALIASES["rediss"] = f"{__name__}:Transport"
BACKEND = f"{__name__}:Backend"
CONTROL = f"{__name__}:Control"
