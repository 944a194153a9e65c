"""Celery's broker, results and remote control on the process's one pool of Redis connections.

kombu's and Celery's own classes open connections for every thread, every channel and every result:
beyond any setting. Those here send all commands through `kit.redis._pool`.

They override private methods, which stand in this one file. The kit's tests name each and what is
relied on (`core/test_library_internals.py`), and others count what the server sees, so the day one
of those methods changes does not go by unnoticed.
"""

import logging
import time
from collections.abc import Callable
from queue import Empty
from typing import Any

import redis
from celery import states
from celery.app.control import Control as CeleryControl
from celery.backends.base import SyncBackendMixin
from celery.backends.redis import RedisBackend
from celery.exceptions import TimeoutError as CeleryTimeoutError
from kombu.exceptions import EncodeError
from kombu.pidbox import Mailbox as KombuMailbox
from kombu.serialization import prepare_accept_content
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport import redis as kombu_redis
from kombu.utils.json import loads

from kit.process import client_name, this_process
from kit.redis._delivery import take_message
from kit.redis._pool import RedisPoolBusyError, leaving_none_behind, redis_client
from kit.settings import settings

logger = logging.getLogger(__name__)

WAITING_CHECK_INTERVAL = 10
"""Seconds between tests of connections that wait for messages, which nobody else would miss."""

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.2
"""Seconds between two looks for what workers answer, which double each time: most answers come at
once, and small plans count the commands of a second."""

# What is overridden below is private, so no stub knows it: the bases are typed as Any.
_KombuChannel: Any = kombu_redis.Channel
_KombuQoS: Any = kombu_redis.QoS
_KombuPoller: Any = kombu_redis.MultiChannelPoller
_KombuTransport: Any = kombu_redis.Transport
_CeleryBackend: Any = RedisBackend
_KombuMailbox: Any = KombuMailbox


_finished_tags: set[str] = set()
"""Messages whose tasks have ended, until Redis is told so."""


class QoS(_KombuQoS):  # type: ignore[misc]
    """kombu's account of what is not acknowledged.

    kombu's own goes on counting a message of whose end Redis cannot be told. A worker that may have
    one message at a time then waits for ever: connected, and taking nothing. Here the message ends
    for this process, and Redis is told as soon as it answers again.
    """

    noted_tag: str | None = None
    """The message that Redis has noted already, see `take_message`."""

    def ack(self, delivery_tag: str) -> None:
        """End a message."""
        virtual.QoS.ack(self, delivery_tag)
        _finished_tags.add(delivery_tag)
        try:
            self.tell_finished()
        except self.channel.connection_errors as error:
            logger.warning("cannot tell Redis yet that a task has ended: %s", error)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Give a message back, or drop it; without Redis its visibility timeout gives it back."""
        try:
            super().reject(delivery_tag, requeue=requeue)
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise

    def tell_finished(self) -> None:
        """Tell Redis of all messages that have ended since it last answered."""
        if tags := _finished_tags.copy():
            # No transaction, which would double the commands: what is left in the index alone is
            # nothing that could run again, and kombu's next look for lost tasks drops it.
            pipe = redis_client().pipeline(transaction=False)
            pipe.hdel(self.channel.whole_key(self.unacked_key), *tags)
            pipe.zrem(self.channel.whole_key(self.unacked_index_key), *tags)
            pipe.execute()
            _finished_tags.difference_update(tags)

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message, in this process and in Redis."""
        if delivery_tag == self.noted_tag:
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)


class Channel(_KombuChannel):  # type: ignore[misc]
    """kombu's channel, which sends all its commands through the shared pool.

    kombu gives each channel two pools. The one here called asynchronous holds the connections that
    wait for messages, and stays the channel's own.

    On that, kombu waits with BRPOP, which takes the message; here BLMOVE from a queue to itself
    does the waiting, which takes nothing, and `take_message` the taking.
    """

    QoS = QoS
    connection_class = leaving_none_behind(_KombuChannel.connection_class)
    connection_class_ssl = leaving_none_behind(_KombuChannel.connection_class_ssl)
    keyprefix_fanout: str
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
            # kombu makes one for each command, which takes a fifth of the time to send a task.
            if self._shared_client is None or self._shared_client.connection_pool is not self.pool:
                self._shared_client = super()._create_client()
            return self._shared_client
        client = super()._create_client(asynchronous=True)
        # Each new channel pings; on this client that would open a connection for nothing.
        client.ping = self._create_client().ping
        return client

    def _disconnect_pools(self) -> None:
        self._pool = None  # a channel that closes must not close everybody's pool
        super()._disconnect_pools()

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        """Begin to receive a queue's messages."""
        if no_ack and queue not in self._fanout_queues:
            self._acknowledges = False
        return super().basic_consume(queue, no_ack, *args, **kwargs)

    def close(self) -> None:
        """Close the channel; what it waits for stays in its queue."""
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
        """Whether Redis let this process wait; a full one does not, but lets messages be taken."""
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
        self.qos.tell_finished()
        delivery = take_message(
            redis_client(),
            self._queue_keys(),
            unacknowledged_key=self.whole_key(self.unacked_key),
            times_key=self.whole_key(self.unacked_index_key),
            now=time.time(),
        )
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
            logger.exception("took from %s what is no message: %.200r", queue, delivery.message)
            raise Empty from None
        self.connection._deliver(message, queue)  # noqa: SLF001

    def whole_key(self, key: str) -> str:
        """A key of kombu's as Redis has it; kombu's own clients put the prefix before it."""
        return f"{self.global_keyprefix}{key}"

    def _queue_keys(self) -> list[str]:
        queues = self._queue_cycle.consume(len(self.active_queues))
        return [
            self.whole_key(self._q_for_pri(queue, priority))
            for priority in self.priority_steps
            for queue in queues
        ]


class Poller(_KombuPoller):  # type: ignore[misc]
    """kombu's waiting for messages, which tests subscriptions without an event loop too.

    Flower has none. The connection on which it waits for events would stay silent for ever after a
    link has died.
    """

    _checked_at = 0.0

    def get(self, *args: Any, **kwargs: Any) -> None:
        """Wait for a message once."""
        now = time.monotonic()
        if now - self._checked_at >= WAITING_CHECK_INTERVAL:
            self._checked_at = now
            self.maybe_check_subclient_health()
        super().get(*args, **kwargs)


class Transport(_KombuTransport):  # type: ignore[misc]
    """kombu's Redis transport with the channel and the poller above."""

    Channel = Channel

    # What a sender tries again after. Not a timeout: what was sent may have arrived and would run
    # twice, and a server that stands still would keep the sender for a minute.
    recoverable_connection_errors = tuple(
        {*kombu_redis.Transport.connection_errors} - {redis.TimeoutError}
    )
    recoverable_channel_errors = kombu_redis.Transport.channel_errors

    # What a worker survives by connecting again.
    connection_errors = (*kombu_redis.Transport.connection_errors, RedisPoolBusyError)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = Poller()


class Backend(SyncBackendMixin, _CeleryBackend):  # type: ignore[misc]
    """Celery's result backend on the shared pool; it asks for a result instead of subscribing."""

    connection_errors: tuple[type[Exception], ...]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Storing a result may wait for the pool again: a result given up is a result lost.
        self.connection_errors = (*self.connection_errors, RedisPoolBusyError)

    def _get_pool(self, **_parameters: Any) -> Any:
        return redis_client().connection_pool

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Nothing: Celery's own subscribes to the result here, a connection for each sender."""

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,  # noqa: ARG002 (the base's signature)
        on_interval: Callable[[], None] | None = None,
    ) -> Any:
        """What is stored of a task that has ended; `AsyncResult.get` waits here.

        Args:
            task_id: of the task.
            timeout: seconds to wait; None for as long as it takes.
            interval: the longest pause between two looks, in seconds.
            no_ack: means nothing here.
            on_interval: called after each look in vain.

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
        # Celery's own tells subscribers too, in a transaction: four commands, where here nobody
        # subscribes.
        lasts = self.expires if expires is None else expires
        self.client.set(key, value, ex=lasts or None)

    def encode(self, data: Any) -> Any:
        """What is stored.

        Raises:
            EncodeError: when a result exceeds `CELERY_PAYLOAD_LIMIT`; the task fails with it.
        """
        payload = super().encode(data)
        if _is_result(data) and len(payload) > settings.CELERY_PAYLOAD_LIMIT:
            raise EncodeError(
                f"the task's result has {len(payload)} bytes, more than the "
                f"{settings.CELERY_PAYLOAD_LIMIT} of CELERY_PAYLOAD_LIMIT: "
                "store it in the database and return its key"
            )
        return payload


class Mailbox(_KombuMailbox):  # type: ignore[misc]
    """Remote control of workers, which asks for their answers through the shared pool.

    kombu's own waits for them on a connection for each caller, and keeps it for the next question.
    """

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
        """Answers to one question, until `limit` are in or none came for `timeout` seconds."""
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
    """The next message of a queue, None when it is empty; one command, kombu's has eight."""
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


def _is_result(data: Any) -> bool:
    return isinstance(data, dict) and data.get("status") == states.SUCCESS


TRANSPORT_ALIASES["redis"] = TRANSPORT_ALIASES["rediss"] = f"{__name__}:Transport"
BACKEND = f"{__name__}:Backend"
CONTROL = f"{__name__}:Control"
