"""What the service relies on inside of kombu, Celery, redis-py, RedBeat and Flower.

None of it is promised by those libraries. Each test names one thing, and looks at the library's own
classes at work: it fails with the release that loses it, before any budget does.
"""

import importlib
import inspect
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty
from types import SimpleNamespace
from typing import Any

import celery.exceptions
import pytest
import redis
from celery import Celery
from celery.app.control import Control as CeleryControl
from celery.app.task import Context
from celery.backends.base import SyncBackendMixin
from celery.backends.redis import RedisBackend
from celery.worker import strategy
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.consumer.gossip import Gossip
from celery.worker.consumer.mingle import Mingle
from flower.events import Events  # type: ignore[import-untyped]
from flower.views import BaseHandler  # type: ignore[import-untyped]
from kombu import Connection, Exchange, Queue
from kombu import Consumer as KombuConsumer
from kombu.pidbox import Mailbox as KombuMailbox
from kombu.transport import redis as kombu_redis
from redbeat.schedulers import (  # type: ignore[import-untyped]
    RedBeatScheduler,
    acquire_distributed_beat_lock,
    get_redis,
)
from redis.exceptions import LockError
from sqlalchemy.exc import OperationalError

from app.core.celery import celery_app
from app.core.config import settings
from kit.architecture._imports import modules
from kit.queue import _tasks
from kit.queue._app import BEAT_LOCK_SECONDS
from kit.queue._consumer import Consumer
from kit.queue._tasks import ping
from kit.redis import _pool as redis_connection
from kit.redis import (
    _pool as redis_pool,
)
from kit.redis import (
    _transport as redis_transport,
)
from kit.redis._pool import RedisPoolBusyError, build_pool, redis_client
from kit.testing._processes import RedisServer

Calls = list[dict[str, Any]]

OVERRIDDEN: list[tuple[type, type, set[str]]] = [
    (
        redis_transport.Channel,
        kombu_redis.Channel,
        {"_get_pool", "_connparams", "_create_client", "_disconnect_pools", "keyprefix_fanout"}
        | {"connection_class", "connection_class_ssl", "QoS", "_queue_bind", "_delete"}
        | {"_brpop_start", "_brpop_read", "basic_consume", "close", "_do_restore_message"},
    ),
    (
        redis_transport.QoS,
        kombu_redis.QoS,
        {"append", "ack", "reject", "can_consume", "restore_unacked", "restore_visible"},
    ),
    (Consumer, CeleryConsumer, {"on_unknown_task"}),
    (redis_transport.Poller, kombu_redis.MultiChannelPoller, {"get"}),
    (redis_transport.Transport, kombu_redis.Transport, {"Channel", "connection_errors"}),
    (redis_transport.Mailbox, KombuMailbox, {"_collect", "producer_or_acquire"}),
    (redis_transport.Control, CeleryControl, {"Mailbox"}),
    (
        redis_transport.Backend,
        RedisBackend,
        {"_get_pool", "on_task_call", "encode", "connection_errors", "_set", "_set_with_state"}
        | {"prepare_exception"},
    ),
    (redis_transport.Backend, SyncBackendMixin, {"wait_for"}),
    (redis_pool.BlockingPool, redis.BlockingConnectionPool, {"get_connection"}),
    (
        redis_connection._ClosingAbandoned,
        redis.Connection,
        {"connect", "on_connect_check_health", "disconnect"},
    ),
    (_tasks.Scheduler, RedBeatScheduler, {"setup_schedule", "tick", "close"}),
]
"""Our classes, the library's, and what ours have in their place; a test below is about each."""


KEYS = f"{settings.REDIS_KEY_PREFIX}redbeat:"


@pytest.fixture
def stock(server: RedisServer) -> Iterator[Connection]:
    """A connection of kombu's with kombu's own transport."""
    with Connection(server.url, transport=kombu_redis.Transport) as connection:
        yield connection


@pytest.fixture
def ours(server: RedisServer) -> Iterator[Connection]:
    """A connection of kombu's with the service's transport."""
    with Connection(server.url) as connection:
        yield connection


def connections(observer: redis.Redis) -> list[dict[str, str]]:
    """All connections that the server sees but the observer's."""
    return [each for each in observer.client_list() if each["name"] != "observer"]


def waiting_commands(observer: redis.Redis) -> list[str]:
    """The commands of the connections that wait for messages."""
    commands = sorted(each["cmd"] for each in connections(observer))
    return [command for command in commands if command in {"blmove", "brpop", "psubscribe"}]


def record(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> Calls:
    """The arguments of each call of a library's method, which goes on as before."""
    original = getattr(owner, name)
    signature = inspect.signature(original)
    calls: Calls = []

    def recorded(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        calls.append({key: value for key, value in bound.arguments.items() if key != "self"})
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, recorded)
    return calls


def wait_until(condition: Callable[[], bool]) -> bool:
    """Whether it came true within ten seconds: a server hears of a closed connection later."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


class TestOverrides:
    @pytest.mark.parametrize(("own", "base", "names"), OVERRIDDEN)
    def test_the_library_still_has_what_is_overridden(
        self, own: type, base: type, names: set[str]
    ) -> None:
        for name in names - {"connection_errors"}:  # an instance's own
            assert hasattr(base, name), name
            assert name in vars(own) or name in own.__annotations__, name

    @pytest.mark.parametrize(("own", "base", "names"), OVERRIDDEN)
    def test_nothing_else_is_overridden(self, own: type, base: type, names: set[str]) -> None:
        common = {
            name
            for name in vars(own)
            if not name.startswith(("__", "_abc_")) and hasattr(base, name)
        }
        assert common <= names

    @pytest.mark.parametrize(
        ("own", "base", "name"),
        [
            (own, base, name)
            for own, base, names in OVERRIDDEN
            for name in sorted(names)
            if inspect.isfunction(vars(own).get(name))
        ],
    )
    def test_takes_the_arguments_that_the_library_gives(
        self, own: type, base: type, name: str
    ) -> None:
        """A call that suits the library's method suits ours: same names, or any."""
        theirs = inspect.signature(getattr(base, name)).parameters
        mine = inspect.signature(getattr(own, name)).parameters
        takes_any = {parameter.kind for parameter in mine.values()}
        if inspect.Parameter.VAR_KEYWORD not in takes_any:
            assert list(mine) == list(theirs)
            assert [p.default for p in mine.values()] == [p.default for p in theirs.values()]

    def test_private_methods_are_overridden_in_one_file(self) -> None:
        found = {
            module
            for module in modules()
            for cls in vars(importlib.import_module(module)).values()
            if inspect.isclass(cls) and cls.__module__ == module and private_overrides(cls)
        }
        assert found == {redis_transport.__name__}


def private_overrides(cls: type) -> set[str]:
    """Private names of a class that one of these libraries has for itself."""
    libraries = ("kombu", "celery", "redis", "redbeat", "flower")
    bases = [base for base in cls.__mro__ if base.__module__.partition(".")[0] in libraries]
    return {
        name
        for name in vars(cls)
        if name.startswith("_") and not name.startswith(("__", "_abc_"))
        if any(hasattr(base, name) for base in bases)
    }


class TestChannel:
    """kombu's channel, which `redis_transport.Channel` changes."""

    def test_kombu_asks_get_pool_for_each_of_a_channel_s_two_pools(
        self, stock: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = record(monkeypatch, kombu_redis.Channel, "_get_pool")
        channel: Any = stock.channel()
        with channel.conn_or_acquire():
            assert asked == [{"asynchronous": True}, {"asynchronous": False}]
        assert channel.pool is not channel.async_pool

    def test_kombu_makes_every_client_with_create_client(
        self, stock: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = record(monkeypatch, kombu_redis.Channel, "_create_client")
        channel: Any = stock.channel()
        assert made == [{"asynchronous": True}]
        with channel.conn_or_acquire() as client:
            assert client.connection_pool is channel.pool
        assert channel.subclient.connection_pool is channel.async_pool
        assert made[1:] == [{"asynchronous": False}, {"asynchronous": True}]

    def test_kombu_would_make_a_client_for_each_message(
        self, stock: Connection, ours: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = {}
        for connection in (stock, ours):
            producer = connection.Producer(connection.channel())
            calls = record(monkeypatch, kombu_redis.Channel, "_create_client")
            for _ in range(3):
                producer.publish("told", routing_key="nobody")
            made[connection] = len(calls)
        assert made == {stock: 3, ours: 0}

    def test_kombu_connects_with_what_connparams_gives(
        self, stock: Connection, observer: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kombu_channel: Any = kombu_redis.Channel
        original = kombu_channel._connparams

        def named(channel: Any, asynchronous: bool = False) -> Any:
            return original(channel, asynchronous=asynchronous) | {"client_name": "named"}

        monkeypatch.setattr(kombu_channel, "_connparams", named)
        stock.channel()
        assert [each["name"] for each in connections(observer)] == ["named"]

    @pytest.mark.parametrize(
        ("scheme", "attribute"), [("redis", "connection_class"), ("rediss", "connection_class_ssl")]
    )
    def test_kombu_makes_connections_of_the_channel_s_class(
        self, stock: Connection, scheme: str, attribute: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kombu_channel: Any = kombu_redis.Channel
        own = type("Own", (getattr(kombu_channel, attribute),), {})
        monkeypatch.setattr(kombu_channel, attribute, own)
        channel: Any = stock.channel()
        channel.connection.client.ssl = (
            {"ssl_cert_reqs": "required"} if scheme == "rediss" else None
        )
        for asynchronous in (False, True):
            made = channel._connparams(asynchronous=asynchronous)["connection_class"]
            assert issubclass(made, own)

    def test_kombu_pings_on_the_waiting_client_when_a_channel_opens(
        self, stock: Connection, ours: Connection, observer: redis.Redis
    ) -> None:
        """So `client.ping` has to be another's, or each channel would hold a connection."""
        stock.channel()
        assert [each["cmd"] for each in connections(observer)] == ["ping"]
        ours.channel()
        redis_client().echo("the pool's")
        assert sorted(each["cmd"] for each in connections(observer)) == ["echo", "ping"]

    @pytest.mark.parametrize("database", [0, 3])
    def test_kombu_puts_the_database_into_the_names_of_broadcasts(
        self, server: RedisServer, database: int
    ) -> None:
        """In `_get_pool`; with another name nobody would hear what `inspect` and Flower ask."""
        url = f"redis://127.0.0.1:{server.port}/{database}"
        prefixes = []
        for transport in (kombu_redis.Transport, redis_transport.Transport):
            with Connection(url, transport=transport) as connection:
                channel: Any = connection.channel()
                prefixes.append(channel.pool and channel.keyprefix_fanout)
        assert prefixes == [f"/{database}."] * 2

    def test_kombu_closes_its_pools_with_disconnect_pools(
        self, stock: Connection, observer: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        closed = record(monkeypatch, kombu_redis.Channel, "_disconnect_pools")
        channel: Any = stock.channel()
        channel.queue_declare("declared")
        assert len(connections(observer)) == 2
        channel.close()
        assert closed == [{}]
        assert wait_until(lambda: connections(observer) == [])

    def test_a_channel_that_closes_leaves_the_shared_pool_alone(self, ours: Connection) -> None:
        channel: Any = ours.channel()
        channel.queue_declare("declared")
        before = redis_client().client_id()
        channel.close()
        assert redis_client().client_id() == before

    def test_kombu_waits_for_messages_on_the_asynchronous_pool_alone(
        self, ours: Connection, observer: redis.Redis
    ) -> None:
        """One connection for queues, one for broadcasts, whatever else a channel does."""
        direct = Queue("waiting", Exchange("waiting"), routing_key="waiting")
        broadcast = Queue("heard", Exchange("heard", type="fanout"))
        with ours.channel() as channel:
            consumer = KombuConsumer(channel, [direct, broadcast], callbacks=[lambda *_: None])
            consumer.consume()
            with suppress(TimeoutError):
                ours.drain_events(timeout=0.1)
            waiting = waiting_commands(observer)
            others = len(connections(observer)) - len(waiting)
        assert waiting == ["blmove", "psubscribe"]
        assert others <= settings.REDIS_POOL_SIZE


class TestDelivery:
    """How a message gets from its queue to a consumer, of which `take_message` does a part."""

    QUEUE = Queue("taken", Exchange("taken"), routing_key="taken")

    @pytest.fixture
    def received(self) -> list[Any]:
        return []

    def receive(self, connection: Connection, received: list[Any]) -> Any:
        """Send a message and receive it, without acknowledging it; gives the channel."""
        channel: Any = connection.channel()
        consumer = KombuConsumer(channel, [self.QUEUE], on_message=received.append)
        connection.Producer(channel).publish(
            {"number": 1}, exchange=self.QUEUE.exchange, routing_key="taken", declare=[self.QUEUE]
        )
        consumer.consume()
        connection.drain_events(timeout=5)
        return channel

    def test_kombu_waits_with_brpop_start_and_reads_with_brpop_read(
        self, stock: Connection, received: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started = record(monkeypatch, kombu_redis.Channel, "_brpop_start")
        read = record(monkeypatch, kombu_redis.Channel, "_brpop_read")
        channel = self.receive(stock, received)
        assert len(received) == 1
        assert started
        assert read
        assert channel.handlers["BRPOP"].__func__ is vars(type(channel))["_brpop_read"]

    def test_kombu_notes_each_message_with_qos_append(
        self, stock: Connection, received: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        noted = record(monkeypatch, kombu_redis.QoS, "append")
        self.receive(stock, received)
        [call] = noted
        assert call["delivery_tag"] == received[0].delivery_tag

    @pytest.mark.parametrize("name", ["ack", "reject"])
    def test_kombu_goes_on_counting_a_message_of_whose_end_redis_cannot_be_told(
        self, name: str, stock: Connection, received: list[Any], server: RedisServer
    ) -> None:
        """Otherwise the service's own `ack` and `reject` could go."""
        channel = self.receive(stock, received)
        channel.basic_qos(0, 1, False)
        assert not channel.qos.can_consume()
        server.kill()
        with pytest.raises(redis.ConnectionError):
            getattr(channel.qos, name)(received[0].delivery_tag)
        assert not channel.qos.can_consume()

    @pytest.mark.parametrize("which", ["stock", "ours"])
    def test_what_is_not_acknowledged_is_noted_in_the_same_form(
        self,
        which: str,
        request: pytest.FixtureRequest,
        received: list[Any],
        observer: redis.Redis,
    ) -> None:
        channel = self.receive(request.getfixturevalue(which), received)
        tag = received[0].delivery_tag
        message, exchange, routing_key = json.loads(str(observer.hget(channel.unacked_key, tag)))
        assert message["properties"]["delivery_tag"] == tag
        assert (exchange, routing_key) == ("taken", "taken")
        assert observer.zscore(channel.unacked_index_key, tag)

    def test_kombu_gives_back_what_the_service_s_script_has_noted(
        self, ours: Connection, received: list[Any], observer: redis.Redis
    ) -> None:
        channel = self.receive(ours, received)
        assert observer.llen("taken") == 0
        channel.qos.restore_by_tag(received[0].delivery_tag)
        assert observer.llen("taken") == 1
        assert observer.hlen(channel.unacked_key) == 0

    @pytest.mark.parametrize("way", ["sweep", "reject", "close"])
    def test_kombu_requeues_with_do_restore_message(
        self, stock: Connection, received: list[Any], way: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        channel = self.receive(stock, received)
        requeued = record(monkeypatch, kombu_redis.Channel, "_do_restore_message")
        put_back = record(monkeypatch, kombu_redis.QoS, "restore_unacked")
        if way == "sweep":
            channel.qos.visibility_timeout = -1
            channel.qos.restore_visible()
        elif way == "reject":
            channel.basic_reject(received[0].delivery_tag, requeue=True)
        else:
            channel.close()
        [call] = requeued
        assert call["payload"]["headers"] == {"redelivered": True}
        assert len(put_back) == (way == "close")

    def test_kombu_asks_can_consume_before_it_takes_a_message(
        self, stock: Connection, received: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kombu_redis.QoS, "can_consume", lambda _: False)
        with pytest.raises(TimeoutError):
            self.receive(stock, received)

    def test_kombu_waits_with_the_transport_s_cycle(
        self, stock: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        transport: Any = stock.transport
        assert type(transport.cycle) is kombu_redis.MultiChannelPoller
        asked = record(monkeypatch, kombu_redis.MultiChannelPoller, "get")
        stock.channel()
        with suppress(TimeoutError):
            stock.drain_events(timeout=0.05)
        assert asked

    def test_kombu_tests_subscriptions_in_an_event_loop_alone(self) -> None:
        """So a consumer without one, as Flower, would never hear that its link is dead."""
        name = "maybe_check_subclient_health"
        assert inspect.isfunction(getattr(kombu_redis.MultiChannelPoller, name))
        assert name not in inspect.getsource(kombu_redis.MultiChannelPoller.get)


class TestRemoteControl:
    """How answers of workers come back, of which `redis_transport.Mailbox` does a part."""

    def test_celery_makes_the_mailbox_of_the_control_s_class(self) -> None:
        assert type(celery_app.control) is redis_transport.Control
        control: Any = celery_app.control
        assert type(control.mailbox) is redis_transport.Mailbox

    def test_kombu_sends_by_producer_or_acquire_and_without_end(
        self, server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lent = record(monkeypatch, KombuMailbox, "producer_or_acquire")
        app = Celery("asking", set_as_current=False, broker=server.url, control=CeleryControl)
        app.control.revoke("a task")
        assert len(lent) == 1
        app.close()
        assert "retry=True" in inspect.getsource(KombuMailbox._publish)

    def test_kombu_collects_answers_with_collect(
        self, server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        collected = record(monkeypatch, KombuMailbox, "_collect")
        app = Celery("asking", set_as_current=False, broker=server.url, control=CeleryControl)
        assert app.control.ping(timeout=0.1) == []
        assert len(collected) == 1
        assert collected[0]["ticket"]
        app.close()


class TestTransport:
    """How kombu comes to the service's transport."""

    def test_kombu_looks_transports_up_by_their_aliases(self) -> None:
        for scheme in ("redis", "rediss"):
            transport = Connection(f"{scheme}://127.0.0.1:1/0").get_transport_cls()
            assert transport is redis_transport.Transport

    def test_kombu_asks_the_transport_what_a_sender_tries_again_after(
        self, ours: Connection
    ) -> None:
        """A timeout is not among it: what was sent may have arrived, and would run twice."""
        assert (
            ours.recoverable_connection_errors
            == redis_transport.Transport.recoverable_connection_errors
        )
        assert redis.TimeoutError not in ours.recoverable_connection_errors
        assert redis.TimeoutError in ours.connection_errors

    def test_kombu_makes_channels_of_the_transport_s_class(self, ours: Connection) -> None:
        assert type(ours.channel()) is redis_transport.Channel


class TestBackend:
    """Celery's result backend, which `redis_transport.Backend` changes."""

    @pytest.fixture
    def stock_app(self, server: RedisServer) -> Celery:
        """A Celery with Celery's own backend."""
        app = Celery("stock", set_as_current=False, broker=server.url, backend=server.url)
        assert type(app.backend) is RedisBackend
        return app

    def test_celery_asks_get_pool_for_its_client_s_pool(
        self, stock_app: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pool = redis_client().connection_pool
        monkeypatch.setattr(RedisBackend, "_get_pool", lambda *_, **__: pool)
        backend: Any = stock_app.backend
        assert backend.client.connection_pool is pool

    def test_celery_calls_on_task_call_for_each_task_that_is_sent(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = record(monkeypatch, redis_transport.Backend, "on_task_call")
        task = ping.apply_async(("told",), queue="nobody")
        redis_client().delete(f"{settings.REDIS_KEY_PREFIX}nobody")
        assert [call["task_id"] for call in calls] == [task.id]

    def test_celery_subscribes_there_to_the_result(
        self, stock_app: Celery, observer: redis.Redis
    ) -> None:
        stock_app.backend.on_task_call(None, "awaited")
        assert observer.pubsub_channels() == ["celery-task-meta-awaited"]

    def test_celery_polls_for_a_result_with_its_sync_mixin(
        self, server: RedisServer, observer: redis.Redis
    ) -> None:
        """The mixin comes first: the Redis backend's own would subscribe."""
        backend = redis_transport.Backend(app=celery_app, url=server.url)
        assert type(backend).wait_for_pending is SyncBackendMixin.wait_for_pending
        assert type(backend).add_pending_result is SyncBackendMixin.add_pending_result
        result = celery_app.AsyncResult("polled", backend=backend)
        late = threading.Timer(0.2, backend.store_result, ["polled", "value", "SUCCESS"])
        late.start()
        assert result.get(timeout=10, interval=0.05) == "value"
        late.join()
        assert observer.pubsub_channels() == []

    def test_celery_waits_in_wait_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = record(monkeypatch, redis_transport.Backend, "wait_for")
        with pytest.raises(celery.exceptions.TimeoutError):
            celery_app.AsyncResult("never").get(timeout=0, interval=0.3)
        (call,) = calls
        assert (call["task_id"], call["timeout"], call["interval"]) == ("never", 0, 0.3)

    # redis-py 8 calls the command deprecated that Celery 5.7 stores results with.
    @pytest.mark.filterwarnings("ignore:Call to deprecated setex")
    def test_celery_stores_with_set(
        self, stock_app: Celery, observer: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = record(monkeypatch, RedisBackend, "_set")
        stock_app.backend.store_result("stored", "value", "SUCCESS")
        (call,) = calls
        assert (observer.get(call["key"]), call["expires"]) == (call["value"], None)

    def test_celery_stores_again_after_each_of_its_connection_errors(self) -> None:
        busy = RedisPoolBusyError("busy")
        stock: Any = RedisBackend(app=celery_app, url=settings.REDIS_URL)
        assert not stock.exception_safe_to_retry(busy)
        stock.connection_errors = (*stock.connection_errors, RedisPoolBusyError)
        assert stock.exception_safe_to_retry(busy)
        ours = redis_transport.Backend(app=celery_app, url=settings.REDIS_URL)
        assert ours.exception_safe_to_retry(busy)

    def test_celery_stores_an_error_by_its_arguments_alone(self, stock_app: Celery) -> None:
        error = OperationalError("SELECT 1", {}, ValueError("gone"))
        stored = stock_app.backend.prepare_exception(error, "json")
        assert type(stock_app.backend.exception_to_python(stored)) is Exception

    def test_celery_encodes_a_result_as_a_dictionary_with_its_status(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        encoded = record(monkeypatch, RedisBackend, "encode")
        celery_app.backend.store_result("encoded", "value", "SUCCESS")
        celery_app.AsyncResult("encoded").forget()
        (call,) = encoded
        assert (call["data"]["status"], call["data"]["result"]) == ("SUCCESS", "value")


class TestPool:
    """redis-py's blocking pool, which `redis_pool.BlockingPool` changes."""

    def test_redis_py_raises_a_busy_pool_s_error_out_of_empty(self) -> None:
        pool: Any = redis.BlockingConnectionPool.from_url(
            settings.REDIS_URL, max_connections=1, timeout=0.05
        )
        held = pool.get_connection()
        with pytest.raises(redis.ConnectionError) as caught:
            pool.get_connection()
        assert isinstance(caught.value.__context__, Empty)
        pool.release(held)
        pool.disconnect()

    def test_redis_py_makes_connections_of_the_pool_s_class(self) -> None:
        pool: Any = redis.BlockingConnectionPool.from_url(settings.REDIS_URL)
        own = type("Own", (redis.Connection,), {})
        pool.connection_class = own
        connection = pool.get_connection()
        assert isinstance(connection, own)
        pool.release(connection)
        pool.disconnect()

    def test_redis_py_greets_each_new_socket_and_says_when_it_ends(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = type("Own", (redis.Connection,), {})  # others of this process end meanwhile
        greeted = record(monkeypatch, own, "on_connect_check_health")
        ended = record(monkeypatch, own, "disconnect")
        pool: Any = redis.BlockingConnectionPool.from_url(settings.REDIS_URL, connection_class=own)
        connection = pool.get_connection()
        for sockets in (1, 2):
            connection.connect()
            assert connection.is_connected
            assert (len(greeted), len(ended)) == (sockets, sockets - 1)
            connection.disconnect()
        pool.release(connection)

    def test_redis_py_names_later_connections_after_connection_kwargs(
        self, server: RedisServer
    ) -> None:
        pool = redis_client().connection_pool
        pool.connection_kwargs["client_name"] = "renamed"
        assert redis_client().client_getname() == "renamed"

    def test_redis_py_empties_the_pool_of_a_forked_process(self) -> None:
        """Otherwise a worker and its children would read from the same sockets."""
        pool: Any = build_pool(settings, "command")
        pool.release(held := pool.get_connection())
        pool.pid = -1  # as if another process had made it
        assert pool.get_connection() is not held
        pool.disconnect()
        held.disconnect()


class TestWorker:
    """Parts of Celery's worker that `app.core.celery` turns off or asks."""

    @pytest.mark.parametrize("step", [Gossip, Mingle])
    def test_celery_leaves_out_what_no_transport_is_compatible_with(
        self, step: type[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        consumer = SimpleNamespace(app=celery_app, hostname="here", pid=1, timer=None, hub=None)
        with monkeypatch.context() as before:
            before.setattr(step, "compatible_transports", {"redis"})
            assert step(consumer).enabled
        monkeypatch.setattr(step, "compatible_transports", set())
        assert not step(consumer).enabled

    def test_celery_runs_a_request_with_the_consumer_s_first_argument(self) -> None:
        first, *_ = inspect.signature(CeleryConsumer).parameters
        assert first == "on_task_request"
        assert "handle = consumer.on_task_request" in inspect.getsource(strategy)

    def test_celery_sends_a_retry_with_the_headers_of_the_message_before(self) -> None:
        """Otherwise `before_task_publish` need not take the counts out."""
        context = Context({"id": "run", "args": (), "kwargs": {}, "headers": {"count": 1}})
        assert context.as_execution_options()["headers"] == {"count": 1}


class TestBeat:
    """RedBeat's scheduler, which `kit.queue`'s `Scheduler` makes outlive a lost Redis."""

    @pytest.fixture
    def scheduler(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        """RedBeat's own scheduler, with nothing to send."""
        monkeypatch.setitem(celery_app.conf, "beat_schedule", {})
        scheduler: Any = RedBeatScheduler(app=celery_app, lock_key="internals")
        yield scheduler
        scheduler.close()
        client = redis_client()
        for key in client.scan_iter(f"{settings.REDIS_KEY_PREFIX}redbeat:*"):
            client.delete(key)

    def test_redbeat_uses_the_client_that_the_app_has_as_redbeat_redis(self) -> None:
        assert get_redis(celery_app) is redis_client()

    def test_redbeat_has_the_names_of_its_keys_in_redbeat_conf(self, scheduler: Any) -> None:
        assert scheduler.app.redbeat_conf.statics_key == f"{KEYS}:statics"
        assert scheduler.app.redbeat_conf.lock_key == f"{KEYS}:lock"

    def test_redbeat_takes_the_lock_for_the_scheduler_of_what_it_is_given(
        self, scheduler: Any
    ) -> None:
        """In a handler of a signal, whose errors Celery hides: so beat calls it again."""
        assert not scheduler.lock
        acquire_distributed_beat_lock(SimpleNamespace(scheduler=scheduler))
        assert scheduler.lock.owned()
        milliseconds = redis_client().pttl(scheduler.lock_key)
        assert BEAT_LOCK_SECONDS - 2 < milliseconds / 1000 <= BEAT_LOCK_SECONDS

    def test_redbeat_says_with_each_tick_when_its_lock_is_gone(self, scheduler: Any) -> None:
        acquire_distributed_beat_lock(SimpleNamespace(scheduler=scheduler))
        assert scheduler.tick() > 0
        redis_client().delete(scheduler.lock_key)
        with pytest.raises(LockError):
            scheduler.tick()

    def test_redbeat_s_lock_can_be_taken_again(self, scheduler: Any) -> None:
        acquire_distributed_beat_lock(SimpleNamespace(scheduler=scheduler))
        redis_client().delete(scheduler.lock_key)
        scheduler.lock.acquire()
        assert scheduler.tick() > 0

    def test_redbeat_gives_the_lock_back_when_it_closes(self, scheduler: Any) -> None:
        acquire_distributed_beat_lock(SimpleNamespace(scheduler=scheduler))
        scheduler.close()
        assert not redis_client().exists(f"{KEYS}:internals")


class TestFlower:
    """What `flowerconfig.py` and `kit/queue/_app.py` put in its place."""

    def test_flower_asks_get_broker_for_the_lengths_of_queues(self) -> None:
        for module in ("flower.views.broker", "flower.api.tasks"):
            source = inspect.getsource(importlib.import_module(module))
            assert "broker = self.get_broker()" in source
            assert "await broker.queues(self.get_active_queue_names())" in source
        assert inspect.isfunction(BaseHandler.get_broker)

    def test_flower_receives_events_in_a_thread_that_runs_run(self) -> None:
        assert issubclass(Events, threading.Thread)
        assert "run" in vars(Events)
        assert list(inspect.signature(Events.on_event).parameters) == ["self", "event"]
