"""The way of a message from its queue to a worker, which no accident may end half-way."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.transport import redis as kombu_redis

from kit.redis import _pool as redis_pool
from kit.redis import _transport as redis_transport
from kit.redis._pool import redis_client
from kit.redis._transport import Delivery, take_message
from kit.testing._processes import RedisServer, pool_on
from kit.tests.faulty_link import FaultyLink

PREFIX = "shop:"
NOTES = (f"{PREFIX}unacked", f"{PREFIX}unacked_index")
"""Where kombu keeps what is not acknowledged."""


Connect = Callable[[type[Any]], Connection]


@pytest.fixture
def connect(server: RedisServer) -> Iterator[Connect]:
    """Makes connections with a transport, which the test's end closes."""
    with ExitStack() as stack:
        options = {"global_keyprefix": PREFIX}
        yield lambda transport: stack.enter_context(
            Connection(server.url, transport=transport, transport_options=options)
        )


@pytest.fixture
def ours(connect: Connect) -> Connection:
    """A connection of a worker's."""
    return connect(redis_transport.Transport)


@pytest.fixture
def kombus(connect: Connect) -> Connection:
    """A connection with kombu's own transport."""
    return connect(kombu_redis.Transport)


@pytest.fixture
def sender(connect: Connect) -> Connection:
    """A connection of somebody else's."""
    return connect(redis_transport.Transport)


def publish(connection: Connection, queue: str, *bodies: str, priority: int = 0) -> None:
    producer = Producer(connection)
    for body in bodies:
        producer.publish(
            {"body": body}, routing_key=queue, declare=[Queue(queue)], priority=priority
        )


class Worker:
    """Receives messages as Celery's consumer does, one at a time.

    Attributes:
        received: what they say.
        unacknowledged: those that it did not acknowledge at once.
    """

    def __init__(
        self, connection: Connection, *queues: str, acknowledges: bool = True, no_ack: bool = False
    ) -> None:
        self.received: list[str] = []
        self.unacknowledged: list[Any] = []
        self.channel: Any = connection.channel()
        self._connection = connection
        self._acknowledges = acknowledges and not no_ack
        self._consumer = Consumer(
            self.channel,
            [Queue(queue) for queue in queues],
            callbacks=[self._receive],
            prefetch_count=1,
            no_ack=no_ack,
        )
        self._consumer.consume()

    def _receive(self, body: dict[str, str], message: Any) -> None:
        self.received.append(body["body"])
        if self._acknowledges:
            message.ack()
        else:
            self.unacknowledged.append(message)

    def wait(self, *, messages: int = 1, seconds: float = 0.2) -> None:
        """Return when so many were received, or after so many seconds."""
        deadline = time.monotonic() + seconds
        while len(self.received) < messages and time.monotonic() < deadline:
            with suppress(TimeoutError):
                self._connection.drain_events(timeout=0.1)


def message(tag: str) -> str:
    properties = {
        "delivery_tag": tag,
        "delivery_info": {"exchange": "post", "routing_key": "a/b"},
    }
    return json.dumps({"body": "é", "properties": properties})


class TestTakeMessage:
    @staticmethod
    def take(*queues: str) -> Delivery | None:
        return take_message(redis_client(), queues, "noted", "times")

    def test_empty_queues_give_nothing(self, observer: redis.Redis) -> None:
        assert self.take("first", "second") is None
        assert observer.keys() == []

    def test_the_oldest_of_the_first_queue_that_has_any(self, observer: redis.Redis) -> None:
        observer.lpush("second", message("older"), message("newer"))
        taken = self.take("first", "second")
        assert taken == Delivery("second", message("older"), next_queue_key="second")

    def test_says_where_to_look_next(self, observer: redis.Redis) -> None:
        observer.lpush("first", message("alone"))
        observer.lpush("second", message("another"))
        taken = self.take("first", "second")
        assert taken is not None
        assert (taken.queue_key, taken.next_queue_key) == ("first", "second")

    def test_is_noted_with_the_time(self, observer: redis.Redis) -> None:
        observer.lpush("first", message("tag"))
        began = time.time()
        self.take("first")
        assert json.loads(observer.hgetall("noted")["tag"]) == [
            json.loads(message("tag")),
            "post",
            "a/b",
        ]
        assert observer.zrangebyscore("times", began, time.time()) == ["tag"]

    @pytest.mark.parametrize("stranger", ["no JSON", "{}", "[1]", '{"properties": {}}'])
    def test_what_is_no_message_does_not_stay(self, observer: redis.Redis, stranger: str) -> None:
        """It would be the next one for ever."""
        observer.lpush("first", stranger)
        taken = self.take("first")
        assert taken is not None
        assert taken.message == stranger
        assert observer.keys() == []

    def test_a_full_redis_can_be_emptied(self, observer: redis.Redis) -> None:
        observer.lpush("first", message("tag"))
        observer.config_set("maxmemory", 1)
        with pytest.raises(redis.OutOfMemoryError):
            observer.lpush("first", message("refused"))
        assert self.take("first") is not None
        assert observer.hkeys("noted") == ["tag"]


class TestWaiting:
    """A worker that waits with the service's transport."""

    def test_its_message_stays_in_the_queue_until_it_takes_it(
        self, ours: Connection, sender: Connection, observer: redis.Redis
    ) -> None:
        worker = Worker(ours, "parcels")
        worker.wait()

        publish(sender, "parcels", "fragile")
        time.sleep(0.1)  # for what kombu would do: the server has answered its waiting command

        assert observer.llen(f"{PREFIX}parcels") == 1
        worker.channel.close()
        assert observer.llen(f"{PREFIX}parcels") == 1

    def test_kombu_s_own_loses_it(
        self, kombus: Connection, sender: Connection, observer: redis.Redis
    ) -> None:
        """Otherwise all of this could go."""
        worker = Worker(kombus, "parcels")
        worker.wait()

        publish(sender, "parcels", "fragile")
        time.sleep(0.1)

        assert observer.llen(f"{PREFIX}parcels") == 0
        assert observer.hlen(f"{PREFIX}unacked") == 0

    def test_it_is_told_of_a_message_at_once(self, ours: Connection, sender: Connection) -> None:
        worker = Worker(ours, "parcels")
        worker.wait()
        publish(sender, "parcels", "fragile")
        began = time.monotonic()
        worker.wait(seconds=5)
        assert worker.received == ["fragile"]
        assert time.monotonic() - began < 0.3

    def test_a_queue_that_it_does_not_wait_on_is_looked_at_each_second(
        self, ours: Connection, sender: Connection
    ) -> None:
        worker = Worker(ours, "parcels", "letters")
        worker.wait()
        publish(sender, "parcels", "p")
        publish(sender, "letters", "l")
        worker.wait(messages=2, seconds=3)
        assert sorted(worker.received) == ["l", "p"]

    def test_queues_take_turns_without_a_pause(self, ours: Connection) -> None:
        publish(ours, "parcels", "p1", "p2", "p3")
        publish(ours, "letters", "l1", "l2", "l3")
        worker = Worker(ours, "parcels", "letters")
        began = time.monotonic()
        worker.wait(messages=6, seconds=5)
        assert worker.received == ["p1", "l1", "p2", "l2", "p3", "l3"]
        assert time.monotonic() - began < 0.5

    def test_urgent_ones_come_first(self, ours: Connection) -> None:
        publish(ours, "parcels", "slow", priority=9)
        publish(ours, "parcels", "usual", priority=3)
        publish(ours, "parcels", "urgent", priority=0)
        worker = Worker(ours, "parcels")
        worker.wait(messages=3, seconds=5)
        assert worker.received == ["urgent", "usual", "slow"]

    @pytest.mark.parametrize("transport", [redis_transport.Transport, kombu_redis.Transport])
    def test_what_is_not_acknowledged_is_noted_in_kombu_s_form(
        self, connect: Connect, observer: redis.Redis, transport: type[Any]
    ) -> None:
        connection = connect(transport)
        publish(connection, "parcels", "fragile")
        worker = Worker(connection, "parcels", acknowledges=False)
        worker.wait()
        notes: Any = observer.hgetall(NOTES[0])
        ((tag, note),) = notes.items()
        content, exchange, routing_key = json.loads(note)
        assert (exchange, routing_key) == ("", "parcels")
        assert content["properties"]["delivery_tag"] == tag
        times: Any = observer.zrange(NOTES[1], 0, -1, withscores=True)
        ((indexed, moment),) = times
        assert indexed == tag
        assert time.time() - moment < 1

    def test_what_is_acknowledged_leaves_nothing(
        self, ours: Connection, observer: redis.Redis
    ) -> None:
        publish(ours, "parcels", "fragile")
        Worker(ours, "parcels").wait()
        assert observer.exists(*NOTES) == 0

    def test_a_message_costs_four_commands(self, ours: Connection, observer: redis.Redis) -> None:
        """Those of a script, of which no plan counts more than the script, aside."""
        publish(ours, "parcels", "fragile", "heavy", "large")
        worker = Worker(ours, "parcels")
        worker.wait()
        observer.config_resetstat()
        worker.wait(messages=3, seconds=5)
        stats = observer.info("commandstats")
        counted = ("blmove", "evalsha", "hdel", "zrem", "multi", "exec")
        calls = {name: stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in counted}
        expected = {"blmove": 2, "evalsha": 2, "hdel": 2, "zrem": 2, "multi": 0, "exec": 0}
        assert calls == expected

    def test_what_needs_no_acknowledgement_leaves_nothing(
        self, ours: Connection, observer: redis.Redis
    ) -> None:
        publish(ours, "parcels", "fragile")
        worker = Worker(ours, "parcels", no_ack=True)
        worker.wait()
        assert worker.received == ["fragile"]
        assert observer.exists(*NOTES) == 0

    def test_what_is_no_message_is_logged_and_the_next_one_taken(
        self, ours: Connection, observer: redis.Redis, caplog: pytest.LogCaptureFixture
    ) -> None:
        observer.lpush(f"{PREFIX}parcels", "a stranger's")
        publish(ours, "parcels", "fragile")
        worker = Worker(ours, "parcels")
        worker.wait(seconds=5)
        assert worker.received == ["fragile"]
        assert "a stranger's" in caplog.text

    def test_a_message_without_headers_is_requeued_and_counted(
        self, ours: Connection, observer: redis.Redis
    ) -> None:
        publish(ours, "parcels", "foreign")
        bare = json.loads(str(observer.lpop(f"{PREFIX}parcels")))
        del bare["headers"]
        observer.lpush(f"{PREFIX}parcels", json.dumps(bare))
        worker = Worker(ours, "parcels", acknowledges=False)
        worker.wait()

        worker.unacknowledged[0].reject(requeue=True)

        requeued = json.loads(str(observer.lindex(f"{PREFIX}parcels", 0)))
        assert requeued["headers"]["x-delivery-count"] == 1

    def test_a_full_redis_is_worked_off(self, ours: Connection, observer: redis.Redis) -> None:
        publish(ours, "parcels", "first", "second")
        observer.config_set("maxmemory", 1)
        worker = Worker(ours, "parcels")
        worker.wait(messages=2, seconds=5)
        assert worker.received == ["first", "second"]


class TestEnd:
    """The end of a message of which Redis cannot be told, as its link is dead just then."""

    @pytest.fixture
    def link(self, server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyLink]:
        """The link of the shared pool; the waiting is done over another."""
        monkeypatch.setattr(redis_pool, "SOCKET_TIMEOUT", 0.2)
        with FaultyLink(server.port) as link:
            pool = pool_on(link.port)
            monkeypatch.setattr(redis_pool._shared, "client", redis.Redis(connection_pool=pool))
            yield link
            pool.disconnect()

    @pytest.fixture
    def worker(self, link: FaultyLink, ours: Connection) -> Worker:
        """One that has a message, of whose end Redis cannot be told."""
        publish(ours, "parcels", "first", "second")
        worker = Worker(ours, "parcels", acknowledges=False)
        worker.wait()
        assert worker.received == ["first"]
        link.cut()
        return worker

    def test_the_worker_gets_the_next_one(
        self, worker: Worker, link: FaultyLink, caplog: pytest.LogCaptureFixture
    ) -> None:
        worker.unacknowledged[0].ack()
        assert "cannot acknowledge an ended task in Redis yet" in caplog.text

        link.mend()
        worker.wait(messages=2, seconds=5)

        assert worker.received == ["first", "second"]

    def test_redis_is_told_as_soon_as_it_answers(
        self, worker: Worker, link: FaultyLink, observer: redis.Redis
    ) -> None:
        worker.unacknowledged[0].ack()
        assert observer.hlen(NOTES[0]) == 1

        link.mend()
        worker.wait(messages=2, seconds=5)

        tag = worker.unacknowledged[1].delivery_tag
        assert observer.hkeys(NOTES[0]) == observer.zrange(NOTES[1], 0, -1) == [tag]

    @pytest.mark.parametrize("requeue", [True, False])
    def test_the_worker_gets_the_next_one_after_one_that_it_gave_back(
        self, worker: Worker, link: FaultyLink, caplog: pytest.LogCaptureFixture, *, requeue: bool
    ) -> None:
        worker.unacknowledged[0].reject(requeue=requeue)
        assert "a rejected task stays in Redis" in caplog.text

        link.mend()
        worker.wait(messages=2, seconds=5)

        assert worker.received == ["first", "second"]


class TestDeadLink:
    """A worker whose link lets nothing through any more, without telling it."""

    @pytest.fixture
    def link(self, server: RedisServer) -> Iterator[FaultyLink]:
        """A link to the server, on which the shared pool is not."""
        with FaultyLink(server.port) as link:
            yield link

    @pytest.fixture
    def waiting(self, link: FaultyLink) -> Iterator[Connection]:
        """A connection whose waiting is done over the link."""
        options = {"global_keyprefix": PREFIX, "health_check_interval": 0.1}
        with Connection(
            link.url, transport=redis_transport.Transport, transport_options=options
        ) as connection:
            yield connection

    def test_a_channel_closes_without_waiting_for_an_answer(
        self, link: FaultyLink, waiting: Connection
    ) -> None:
        worker = Worker(waiting, "parcels")
        worker.wait()
        link.cut()
        began = time.monotonic()
        worker.channel.close()
        assert time.monotonic() - began < 0.5

    def test_a_channel_that_closes_opens_no_connection(self, sender: Connection) -> None:
        """Not even for the binding of remote control, which a worker that ends removes."""
        channel: Any = sender.channel()
        Queue("listener", Exchange("news", type="fanout"), auto_delete=True)(channel).declare()
        channel.basic_consume("listener", True, print, "tag")
        assert channel.client  # a worker's, which waits for messages
        clients = redis_client().info("stats")["total_connections_received"]
        channel.close()
        assert redis_client().info("stats")["total_connections_received"] == clients

    @pytest.mark.slow
    def test_a_subscription_without_an_event_loop_is_renewed(
        self,
        link: FaultyLink,
        waiting: Connection,
        sender: Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """As Flower's to the events of workers."""
        monkeypatch.setattr(redis_transport, "WAITING_CHECK_INTERVAL", 0.2)
        news = Exchange("news", type="fanout")
        heard: list[str] = []
        listener = Queue("listener", news, auto_delete=True)

        def hear(body: str, _: object) -> None:
            heard.append(body)

        Consumer(waiting.channel(), [listener], callbacks=[hear]).consume()
        listen(waiting)

        link.lose()
        deadline = time.monotonic() + 10
        while not heard and time.monotonic() < deadline:
            Producer(sender, exchange=news).publish("again", declare=[news])
            listen(waiting)

        assert heard


def listen(connection: Connection) -> None:
    with suppress(TimeoutError):
        connection.drain_events(timeout=0.2)
