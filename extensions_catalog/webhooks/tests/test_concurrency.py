"""Several workers at once, on rows that are committed for good."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler

import pytest
from sqlalchemy import NullPool, create_engine, delete, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, col

from app.extensions.webhooks.attempts import Attempt, claim_due
from app.extensions.webhooks.models import DeliveryState, WebhookSubscription
from app.extensions.webhooks.outbox import write_deliveries
from app.extensions.webhooks.settings import webhooks_settings
from app.extensions.webhooks.tasks import deliver_due
from app.extensions.webhooks.tests.receiver import Answer, Receiver, status
from app.extensions.webhooks.tests.rows import a_delivery, a_subscription, add, deliveries
from kit.testing import change_settings, committing_workers

WORKERS = 3

pytestmark = pytest.mark.usefixtures("sent_tasks")


@pytest.fixture
def engine(test_database: str) -> Iterator[Engine]:
    with committing_workers(WORKERS) as engine:
        yield engine
        with Session(engine) as session:
            session.exec(delete(WebhookSubscription))  # and with them their deliveries
            session.commit()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine, expire_on_commit=False) as session:
        yield session


def test_no_two_workers_make_the_same_delivery(
    session: Session, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_settings(monkeypatch, webhooks_settings, CONCURRENCY=4)
    subscription = a_subscription(receiver)
    add(session, subscription)
    session.add_all(a_delivery(subscription) for _ in range(60))
    session.commit()
    start = threading.Barrier(WORKERS)

    def work(_: int) -> int:
        start.wait()
        count: int = deliver_due()
        return count

    with ThreadPoolExecutor(WORKERS) as workers:
        counts = list(workers.map(work, range(WORKERS)))

    assert sum(counts) == 60
    assert sum(count > 0 for count in counts) > 1, "only one of them has worked"
    ids = [each.headers["webhook-id"] for each in receiver.received]
    assert len(ids) == len(set(ids)) == 60
    rows = deliveries(session)
    assert {(row.state, row.attempts) for row in rows} == {(DeliveryState.DELIVERED, 1)}


def test_a_delivery_that_was_claimed_while_another_worker_looked_is_not_claimed_again(
    session: Session, engine: Engine
) -> None:
    """What the other has read of the row is true no more when it comes to lock it."""
    subscription = a_subscription()
    add(session, subscription)
    add(session, a_delivery(subscription))

    def claim_slowly() -> list[Attempt]:
        with Session(engine) as other:
            # The row is read at once and locked a second later.
            _slow_down(other)
            return claim_due(other, 1)

    with ThreadPoolExecutor(1) as thread:
        slow = thread.submit(claim_slowly)
        with Session(engine) as observer:
            _wait_until_somebody_waits(observer, "PgSleep")
        assert len(claim_due(session, 1)) == 1
        session.commit()
        assert slow.result(timeout=10) == []


def deliver_one(session: Session, receiver: Receiver, answer: Answer) -> None:
    receiver.answers = [answer]
    subscription = a_subscription(receiver)
    add(session, subscription)
    add(session, a_delivery(subscription))
    assert deliver_due() == 1


def test_no_connection_is_held_while_a_receiver_takes_its_time(
    session: Session, engine: Engine, receiver: Receiver
) -> None:
    held: list[int] = []

    def look(request: BaseHTTPRequestHandler) -> None:
        held.append(engine.pool.checkedout())  # type: ignore[attr-defined]
        status(200)(request)

    deliver_one(session, receiver, look)
    assert held == [0]


def test_a_delivery_is_recorded_although_the_database_went_away_meanwhile(
    session: Session, engine: Engine, receiver: Receiver
) -> None:
    pids: set[int] = set()
    event.listen(engine, "checkout", lambda link, *_: pids.add(link.info.backend_pid))

    def end_connections(request: BaseHTTPRequestHandler) -> None:
        lone = create_engine(engine.url, poolclass=NullPool)
        with lone.connect() as connection:
            for pid in pids:
                connection.execute(text(f"SELECT pg_terminate_backend({pid}, 5000)"))
        status(200)(request)

    deliver_one(session, receiver, end_connections)
    (delivery,) = deliveries(session)
    assert (delivery.state, len(receiver.received)) == (DeliveryState.DELIVERED, 1)


class TestDeletion:
    """Of a subscription, while a message is being written for it."""

    def test_waits_for_the_senders_commit(self, session: Session, engine: Engine) -> None:
        subscription = a_subscription()
        add(session, subscription)
        write_deliveries(session, "order.paid", {})
        with Session(engine) as other:
            other.exec(text("SET lock_timeout = '100ms'"))  # type: ignore[call-overload]
            with pytest.raises(OperationalError, match="lock timeout"):
                other.exec(delete(WebhookSubscription))
        session.commit()
        assert len(deliveries(session)) == 1

    def test_loses_no_other_subscriptions_delivery(self, session: Session, engine: Engine) -> None:
        going, staying = a_subscription(), a_subscription()
        add(session, going, staying)

        def publish() -> None:
            with Session(engine) as sender:
                write_deliveries(sender, "order.paid", {})
                sender.commit()

        session.exec(delete(WebhookSubscription).where(col(WebhookSubscription.id) == going.id))
        with ThreadPoolExecutor(1) as thread:
            publishing = thread.submit(publish)
            with Session(engine) as observer:
                _wait_until_somebody_waits(observer, "Lock")
            session.commit()
            publishing.result(timeout=5)
        assert [each.subscription_id for each in deliveries(session)] == [staying.id]


def _slow_down(session: Session) -> None:
    @event.listens_for(session.connection(), "before_cursor_execute", retval=True)
    def sleep(
        _connection: object, _cursor: object, statement: str, parameters: object, *_: object
    ) -> tuple[str, object]:
        return statement.replace("WHERE", "WHERE pg_sleep(1) IS NOT NULL AND", 1), parameters


def _wait_until_somebody_waits(observer: Session, event: str) -> None:
    """For a lock, or for what else PostgreSQL calls an event, in this database."""
    statement = text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND :event IN (wait_event_type, wait_event)"
    )
    deadline = time.monotonic() + 5
    while not observer.exec(statement, params={"event": event}).scalar():  # type: ignore[call-overload]
        assert time.monotonic() < deadline, f"nobody waits for {event}"
        observer.rollback()
        time.sleep(0.01)
