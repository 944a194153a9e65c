"""Outboxes, on a table of these tests and with rows that are committed for good."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import DateTime, MetaData, func, text, update
from sqlalchemy import event as events
from sqlalchemy.engine import Engine
from sqlalchemy.orm import registry
from sqlmodel import Field, Session, SQLModel, col, select

from kit import outbox as outbox_module
from kit.messages import call_after_commit
from kit.outbox import (
    FAILURES,
    LONGEST_ERROR,
    Backlog,
    Outbox,
    OutboxRow,
    OutboxState,
    Outcome,
    back_off,
    delete_old,
    due_index,
    read_backlogs,
)
from kit.places import service
from kit.queue import read_redis_status
from kit.testing import committing_workers

WORKERS = 3


class OwnTables(
    OutboxRow,
    registry=registry(
        metadata=MetaData(naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s"})
    ),
):
    """Keeps the table out of the service's."""


class Parcel(OwnTables, table=True):
    __tablename__ = "outbox_test_parcel"
    __table_args__ = (due_index(),)

    content: str = ""
    receipt: str | None = None


class OtherTables(SQLModel, registry=registry(metadata=Parcel.metadata)):
    """Keeps a table of another shape with them."""


class Visit(OtherTables, table=True):
    """A row without a state, and with a key that does not count up."""

    __tablename__ = "outbox_test_visit"

    id: UUID = Field(primary_key=True)
    at: datetime = Field(sa_type=DateTime(timezone=True))


outbox = Outbox(Parcel, lease=60, max_attempts=3)


@pytest.fixture
def engine(test_database: str) -> Iterator[Engine]:
    with committing_workers(WORKERS) as engine:
        Parcel.metadata.create_all(engine)
        yield engine
        Parcel.metadata.drop_all(engine)


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine, expire_on_commit=False) as session:
        yield session


@pytest.fixture
def nudges() -> list[str]:
    """Every task that would have been sent."""
    return []


def add(session: Session, *contents: str, **values: object) -> list[Parcel]:
    """Parcels that became due one after the other."""
    parcels = [Parcel(content=content) for content in contents]
    for parcel in parcels:
        for name, value in values.items():
            setattr(parcel, name, value)
        session.add(parcel)
        session.commit()
    return parcels


def reload(session: Session, parcel: Parcel) -> Parcel:
    session.refresh(parcel)
    session.commit()
    return parcel


def let_time_pass(session: Session) -> None:
    """Until every row that waits or is leased is due."""
    session.exec(update(Parcel).values(due_at=func.now()))
    session.commit()


def send_due(send: list[str] | Outcome | Exception, of: Outbox[Parcel] = outbox) -> int:
    """A run of a worker; what it sends is noted in the list, or ends as given."""

    def attempt(parcel: Parcel) -> Outcome | None:
        if isinstance(send, Exception):
            raise send
        if isinstance(send, Outcome):
            return send
        send.append(parcel.content)
        return None

    return of.send_due(attempt, again=lambda: None)


def seconds_until_due(parcel: Parcel) -> float:
    assert parcel.due_at is not None
    return (parcel.due_at - datetime.now(UTC)).total_seconds()


class TestSender:
    """Of a row, and of the task that is sent after its commit."""

    def test_that_rolls_back_has_nothing_sent(self, session: Session, nudges: list[str]) -> None:
        session.add(Parcel(content="book"))
        call_after_commit(session, lambda: nudges.append("nudge"))
        session.flush()
        session.rollback()
        sent: list[str] = []
        assert send_due(sent) == 0
        assert sent == nudges == []

    def test_sends_one_task_for_all_rows_of_its_transaction(
        self, session: Session, nudges: list[str]
    ) -> None:
        def nudge() -> None:
            with Session(session.get_bind()) as other:
                rows = other.exec(select(Parcel)).all()
            nudges.append(f"{len(rows)} rows are committed")

        for content in ("book", "lamp"):
            session.add(Parcel(content=content))
            call_after_commit(session, nudge)
        with session.begin_nested():
            session.add(Parcel(content="chair"))
            call_after_commit(session, nudge)
        assert nudges == []
        session.commit()
        assert nudges == ["3 rows are committed"]
        session.commit()
        assert len(nudges) == 1


class TestFailedAttempts:
    @pytest.mark.parametrize(
        ("attempts", "seconds"), [(1, 60), (2, 240), (3, 960), (5, 14_400), (2_000, 14_400)]
    )
    def test_are_further_and_further_apart(self, attempts: int, seconds: float) -> None:
        pauses = [back_off(attempts, first=60, longest=14_400) for _ in range(100)]
        assert seconds * 0.8 <= min(pauses) < max(pauses) <= seconds * 1.2

    def test_are_made_again_once_the_row_is_due(self, session: Session) -> None:
        [parcel] = add(session, "book")
        assert send_due(Outcome(OutboxState.QUEUED, "no courier")) == 0

        reload(session, parcel)
        assert (parcel.state, parcel.attempts) == (OutboxState.QUEUED, 1)
        assert parcel.error == "no courier"
        assert 45 < seconds_until_due(parcel) < 75
        sent: list[str] = []
        assert send_due(sent) == 0
        let_time_pass(session)
        assert send_due(sent) == 1
        reload(session, parcel)
        assert (parcel.state, parcel.attempts, parcel.error) == (OutboxState.SENT, 2, "")
        assert parcel.sent_at is not None

    def test_an_error_counts_as_one_and_stops_no_other_row(
        self, session: Session, caplog: pytest.LogCaptureFixture
    ) -> None:
        first, second = add(session, "vase", "lamp")

        def send(parcel: Parcel) -> None:
            if parcel.content != "lamp":
                raise ValueError("bro\0ken" + "!" * LONGEST_ERROR)

        assert outbox.send_due(send, again=lambda: None) == 1
        reload(session, first)
        assert (first.state, first.attempts) == (OutboxState.QUEUED, 1)
        assert first.error.startswith("ValueError: broken!!")
        assert reload(session, second).state == OutboxState.SENT
        assert f"outbox_test_parcel {first.id} failed" in caplog.text
        assert "Traceback" in caplog.text

    def test_the_last_one_makes_a_dead_letter(self, session: Session) -> None:
        [parcel] = add(session, "book")
        for _ in range(4):
            send_due(Outcome(OutboxState.QUEUED, "no courier"))
            let_time_pass(session)
        reload(session, parcel)
        assert (parcel.state, parcel.attempts) == (OutboxState.FAILED, 3)
        assert parcel.error == "no courier"

    def test_one_that_is_refused_for_good_is_not_made_again(self, session: Session) -> None:
        [parcel] = add(session, "book")
        send_due(Outcome(OutboxState.FAILED, "forbidden \ud800"))
        let_time_pass(session)
        assert send_due([]) == 0
        reload(session, parcel)
        assert (parcel.state, parcel.attempts) == (OutboxState.FAILED, 1)
        assert parcel.error == "forbidden ?"

    def test_a_server_that_does_not_work_costs_one_row_an_attempt(self, session: Session) -> None:
        parcels = add(session, "book", "lamp")
        send_due(Outcome(OutboxState.QUEUED, "on strike", server_works=False))
        assert [reload(session, parcel).attempts for parcel in parcels] == [1, 0]

    def test_a_dead_letter_can_be_sent_again(self, session: Session) -> None:
        [parcel] = add(session, "book", state=OutboxState.FAILED, attempts=3, error="no courier")
        parcel.queue_again()
        session.commit()
        assert send_due([]) == 1
        reload(session, parcel)
        assert (parcel.state, parcel.attempts, parcel.error) == (OutboxState.SENT, 1, "")


class TestSentRows:
    def test_leave_in_the_order_in_which_they_became_due(self, session: Session) -> None:
        add(session, "second", "third")
        add(session, "first", due_at=datetime.now(UTC) - timedelta(hours=1))
        add(session, "tomorrow", due_at=datetime.now(UTC) + timedelta(days=1))
        sent: list[str] = []
        assert send_due(sent) == 3
        assert sent == ["first", "second", "third"]

    def test_are_not_sent_again(self, session: Session) -> None:
        [parcel] = add(session, "book")
        outcome = Outcome(OutboxState.SENT, values={"receipt": "R1"})
        assert send_due(outcome) == 1
        let_time_pass(session)
        assert send_due(outcome) == 0
        reload(session, parcel)
        assert (parcel.state, parcel.attempts, parcel.receipt) == (OutboxState.SENT, 1, "R1")

    def test_are_reported_in_the_transaction_that_ends_them(self, session: Session) -> None:
        def report(session: Session, parcel: Parcel) -> None:
            session.add(Parcel(content=f"{parcel.content} is {parcel.state}", state="kept"))

        reporting = Outbox(Parcel, lease=60, ended=report)
        add(session, "book")
        send_due(Outcome(OutboxState.QUEUED), of=reporting)
        let_time_pass(session)
        send_due([], of=reporting)
        contents = session.exec(select(Parcel.content).order_by(col(Parcel.id))).all()
        assert contents == ["book", "book is sent"]

    def test_a_refused_row_is_not_one_of_them(self, session: Session) -> None:
        def refuse(_: Session, parcel: Parcel) -> Outcome | None:
            return Outcome("kept", "no books") if parcel.content == "book" else None

        book, _ = add(session, "book", "lamp")
        sent: list[str] = []
        send_due(sent, of=Outbox(Parcel, lease=60, refuse=refuse))
        assert sent == ["lamp"]
        reload(session, book)
        assert (book.state, book.attempts, book.error) == ("kept", 0, "no books")

    def test_a_long_run_leaves_the_rest_to_another_one(
        self, session: Session, nudges: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outbox_module, "RUN_SECONDS", -1)
        add(session, "book", "lamp")
        assert outbox.send_due(lambda _: None, again=lambda: nudges.append("again")) == 1
        assert nudges == ["again"]


class TestLeases:
    def test_no_two_workers_send_the_same_row(self, session: Session) -> None:
        add(session, *(str(number) for number in range(60)))
        sent: list[str] = []
        start = threading.Barrier(WORKERS)

        def work(_: int) -> int:
            start.wait()
            return send_due(sent)

        session.close()
        with ThreadPoolExecutor(WORKERS) as workers:
            counts = list(workers.map(work, range(WORKERS)))

        assert sum(count > 0 for count in counts) > 1, "only one of them has worked"
        assert sum(counts) == 60
        assert sorted(sent, key=int) == [str(number) for number in range(60)]

    @pytest.mark.parametrize("hours", [-1, 1])
    def test_a_clock_that_is_wrong_ends_no_lease(
        self, session: Session, monkeypatch: pytest.MonkeyPatch, hours: int
    ) -> None:
        class Wrong(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return datetime.now(tz) + timedelta(hours=hours)

        [row] = add(session, "book")
        monkeypatch.setattr("kit.outbox.datetime", Wrong)
        assert outbox.claim()
        assert outbox.claim() is None
        session.refresh(row)
        assert row.due_at
        assert abs((row.due_at - datetime.now(UTC)).total_seconds() - outbox.lease) < 30

        outbox.record(row, Outcome(OutboxState.QUEUED, "the carrier is away"))
        session.refresh(row)
        wait = (row.due_at - datetime.now(UTC)).total_seconds()
        assert abs(wait - outbox.first_pause) < 30

    def test_a_row_that_another_worker_is_claiming_is_passed_over(self, session: Session) -> None:
        first, second = add(session, "book", "lamp")
        session.exec(select(Parcel).where(Parcel.id == first.id).with_for_update()).one()
        claimed = outbox.claim()
        assert claimed is not None
        assert claimed.id == second.id
        assert outbox.claim() is None

    def test_no_connection_is_held_while_a_row_is_sent(
        self, session: Session, engine: Engine
    ) -> None:
        add(session, "book")
        session.close()
        held: list[int] = []

        def send(_: Parcel) -> None:
            held.append(engine.pool.checkedout())  # type: ignore[attr-defined]

        assert outbox.send_due(send, again=lambda: None) == 1
        assert held == [0]

    def test_the_row_of_a_lost_worker_is_sent_again_once_its_lease_has_ended(
        self, session: Session, caplog: pytest.LogCaptureFixture
    ) -> None:
        [parcel] = add(session, "book")
        assert outbox.claim() is not None
        reload(session, parcel)
        assert (parcel.state, parcel.attempts) == (OutboxState.SENDING, 1)
        assert 55 < seconds_until_due(parcel) <= 60
        assert send_due([]) == 0
        let_time_pass(session)
        assert send_due([]) == 1
        assert "its worker was lost, maybe after sending it" in caplog.text
        reload(session, parcel)
        assert (parcel.state, parcel.attempts) == (OutboxState.SENT, 2)

    def test_a_row_that_costs_each_worker_its_life_ends_too(self, session: Session) -> None:
        [parcel] = add(session, "book")
        for _ in range(3):
            assert outbox.claim() is not None
            let_time_pass(session)
        assert outbox.claim() is None
        reload(session, parcel)
        assert (parcel.state, parcel.attempts) == (OutboxState.FAILED, 3)
        assert parcel.error == "the worker of the last attempt was lost"

    def test_a_worker_that_comes_late_changes_nothing(self, session: Session) -> None:
        [parcel] = add(session, "book")
        late = outbox.claim()
        assert late is not None
        let_time_pass(session)
        assert outbox.claim() is not None
        outbox.record(late, Outcome(OutboxState.FAILED, "late"))
        reload(session, parcel)
        assert (parcel.state, parcel.attempts, parcel.error) == (OutboxState.SENDING, 2, "")

    def test_a_sent_row_is_recorded_although_the_database_went_away_meanwhile(
        self, session: Session, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outbox_module, "RECORD_PAUSES_SECONDS", (0, 0, 0))
        [parcel] = add(session, "book")
        with engine.connect() as connection:  # the pool's one connection
            backend = connection.scalar(text("SELECT pg_backend_pid()"))

        def send(_: Parcel) -> None:
            with service.sync_engine.connect() as other:
                other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": backend})

        assert outbox.send_due(send, again=lambda: None) == 1
        assert reload(session, parcel).state == OutboxState.SENT


class TestRetention:
    def test_what_is_old_and_done_with_goes_in_batches(
        self, session: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outbox_module, "BATCH_SIZE", 2)
        now = datetime.now(UTC)
        old, recent = now - timedelta(days=30, minutes=1), now - timedelta(days=29)
        for state in (*OutboxState, "kept"):
            add(session, "old", "old", state=state, created_at=old)
            add(session, "recent", state=state, created_at=recent)

        assert delete_old(Parcel, days=30) == 6

        left = {(parcel.content, parcel.state) for parcel in session.exec(select(Parcel))}
        unfinished = {("old", OutboxState.QUEUED), ("old", OutboxState.SENDING)}
        assert left == {("recent", state) for state in (*OutboxState, "kept")} | unfinished
        assert delete_old(Parcel, days=30) == 0

    def test_one_run_deletes_a_bounded_number_and_waits_for_no_one(
        self, session: Session, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outbox_module, "BATCH_SIZE", 1)
        monkeypatch.setattr(outbox_module, "MOST_BATCHES", 2)
        old = datetime.now(UTC) - timedelta(days=2)
        locked, *_ = add(session, *"12345", state=OutboxState.SENT, created_at=old)
        session.exec(select(Parcel).where(Parcel.id == locked.id).with_for_update()).one()
        assert delete_old(Parcel, days=1) == 2
        session.rollback()
        assert session.exec(select(Parcel.content).order_by(col(Parcel.id))).all() == list("145")

    def test_a_key_that_counts_up_is_read_as_far_as_the_first_batch_without_old_rows(
        self, session: Session, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outbox_module, "BATCH_SIZE", 2)
        old = datetime.now(UTC) - timedelta(days=2)
        add(session, *"12", created_at=old)  # not sent, so they stay
        add(session, "3", state=OutboxState.SENT, created_at=old)
        add(session, *"456789")
        statements: list[str] = []
        events.listen(engine, "before_cursor_execute", lambda *all_: statements.append(all_[2]))
        assert delete_old(Parcel, days=1) == 1
        assert [each.split()[0] for each in statements] == [*("SELECT", "DELETE") * 2, "SELECT"]

    def test_another_key_is_read_to_its_end(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outbox_module, "BATCH_SIZE", 1)
        now = datetime.now(UTC)
        with Session(engine) as session:
            for number, days in enumerate((0, 3, 0, 3)):
                session.add(Visit(id=UUID(int=number), at=now - timedelta(days=days)))
            session.commit()
            assert delete_old(Visit, days=1, unfinished=(), since="at") == 2
            assert {row.id.int for row in session.exec(select(Visit))} == {0, 2}


def test_a_secret_that_a_server_repeats_is_not_stored(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kit.process.known_secrets", {"token-of-the-page"})
    [parcel] = add(session, "a")
    send_due(Outcome(OutboxState.FAILED, "Malformed access token token-of-the-page"))
    assert reload(session, parcel).error == "Malformed access token ***"


class TestBacklog:
    async def read(self) -> Backlog:
        async with service.engine.connect() as connection:
            [backlog] = await connection.run_sync(read_backlogs, Parcel.metadata)
        return backlog

    async def test_of_an_empty_table(self, engine: Engine) -> None:
        assert await self.read() == Backlog(Parcel.__tablename__, 0, 0)

    async def test_counts_what_is_unfinished_and_how_long_it_is_due(self, session: Session) -> None:
        add(session, "sent", state=OutboxState.SENT, due_at=datetime.now(UTC) - timedelta(days=9))
        add(session, "later", due_at=datetime.now(UTC) + timedelta(hours=1))
        assert await self.read() == Backlog(Parcel.__tablename__, 1, 0)
        add(session, "late", due_at=datetime.now(UTC) - timedelta(minutes=5))
        found = await self.read()
        assert found.waiting == 2
        assert found.overdue_seconds == pytest.approx(300, abs=30)

    async def test_of_a_million_is_not_counted_to_its_end(
        self, session: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add(session, *"abcde")
        monkeypatch.setattr(outbox_module, "MOST_COUNTED", 3)
        assert (await self.read()).waiting == 3

    def test_what_is_given_up_is_counted(self, session: Session) -> None:
        event = f"{FAILURES}{Parcel.__tablename__}"
        before = read_redis_status().counts.get(event, 0)
        add(session, "refused", "sent")
        send_due(Outcome(OutboxState.FAILED, "refused"))
        add(session, "sent")
        send_due([])
        add(session, "lost", attempts=3)
        send_due([])
        assert read_redis_status().counts[event] == before + 3
