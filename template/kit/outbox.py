"""Outboxes: rows written in a sender's transaction, and sent by a task once that is committed.

    class Sms(OutboxRow, table=True):                            # app/models/sms.py
        __table_args__ = (due_index(),)
        to: str
        text: str

    outbox = Outbox(Sms, lease=60)                               # app/tasks/sms.py

    def send_sms(sms: Sms) -> None:
        httpx2.post(GATEWAY, json={"to": sms.to, "text": sms.text}).raise_for_status()

    @celery_app.task(ignore_result=True)
    def send_due_sms() -> int:
        return outbox.send_due(send_sms, again=send_due_sms.delay)

    session.add(Sms(to="+15550100", text="Your room is ready"))  # in an endpoint or a handler
    call_after_commit(session, send_due_sms.delay)               # of kit.messages

A schedule runs the task too, every minute or so: for further attempts, and for what was lost.

A row is sent at least once. A worker leases it in a transaction of its own before it sends it, so
that no two workers send one row, and holds no connection to the database meanwhile; a second
transaction records the outcome. If the worker is lost in between, the row is sent again after its
lease. `turns`, `back_off` and `delete_old` serve rows of another shape as well.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    BigInteger,
    Connection,
    DateTime,
    Index,
    Integer,
    MetaData,
    delete,
    func,
    inspect,
    literal,
    text,
    union_all,
)
from sqlmodel import Field, Session, SQLModel, col, select

from kit.causes import first_line, is_outage
from kit.context import get_task_id
from kit.places import service
from kit.process import mask_secrets
from kit.redis import count_event

logger = logging.getLogger(__name__)

RUN_SECONDS = 30
"""After which a run leaves the rest to another one, so that other tasks get their turn."""

RECORD_PAUSES_SECONDS = (0.5, 3, 10)
"""Before further tries to record an outcome, while the database is away."""

JITTER = 0.2
"""Pauses differ by up to this part, so that what failed together does not come back together."""

BATCH_SIZE = 1_000
MOST_BATCHES = 500
"""Of rows that one run of `delete_old` deletes."""

LONGEST_ERROR = 1_000


class OutboxState(StrEnum):
    """The states that every outbox has, stored as text; it may have further ones that end a row."""

    QUEUED = "queued"
    """To be sent, at once or again later."""
    SENDING = "sending"
    """Leased by a worker."""
    SENT = "sent"
    FAILED = "failed"
    """Given up, a dead letter: refused for good, or not sent in all attempts."""


UNFINISHED = (OutboxState.QUEUED, OutboxState.SENDING)


class OutboxRow(SQLModel):
    """The columns of an outbox; a table inherits them and adds what is to be sent."""

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger)
    state: str = Field(default=OutboxState.QUEUED, max_length=16, description="An OutboxState")
    attempts: int = Field(default=0, description="Made so far, the one that runs included")
    due_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        nullable=False,
        sa_column_kwargs={"server_default": func.now()},
        description="When to send it; while it is being sent, when its lease ends",
    )
    error: str = Field(
        default="", max_length=LONGEST_ERROR, description="What went wrong last, if anything did"
    )
    created_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        nullable=False,
        sa_column_kwargs={"server_default": func.now()},
    )
    sent_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))

    def queue_again(self) -> None:
        """Make the row due now, as if it had never been attempted; the caller commits."""
        self.state, self.attempts, self.error = OutboxState.QUEUED, 0, ""
        self.due_at = datetime.now(UTC)


def due_index() -> Index:
    """The index that due rows are found by, for a table's `__table_args__`."""
    return Index(
        *(None, "due_at"),
        postgresql_where=text("state IN ('queued', 'sending')"),
        info={DUE_COLUMN: "due_at"},
    )


DUE_COLUMN = "due_column"
"""Key in the `info` of a partial index of what is to be sent: the column that says when."""

MOST_COUNTED = 10_000
"""Rows of a table that `read_backlogs` counts; a longer backlog has this many."""


@dataclass(frozen=True)
class Backlog:
    """What waits to be sent in one table."""

    table: str
    waiting: int
    overdue_seconds: float
    """For how long the row has been due that was due first; 0 where none is due yet."""


def read_backlogs(connection: Connection, metadata: MetaData = SQLModel.metadata) -> list[Backlog]:
    """Read the backlog of each outbox, and of each table with an index that has a `DUE_COLUMN`."""
    queries = []
    for _, table in sorted(metadata.tables.items()):
        for index in table.indexes:
            due = table.columns.get(index.info.get(DUE_COLUMN, ""))
            if due is not None:
                waiting = (
                    select(due.label("due"))
                    .where(index.dialect_options["postgresql"]["where"])
                    .order_by(due)
                    .limit(MOST_COUNTED)
                    .subquery()
                )
                overdue = func.extract("epoch", func.now() - func.min(waiting.c.due))
                queries.append(
                    select(
                        literal(table.name), func.count(), func.greatest(overdue, 0)
                    ).select_from(waiting)
                )
    if not queries:
        return []
    rows = connection.execute(union_all(*queries))
    return [Backlog(name, waiting, float(overdue)) for name, waiting, overdue in rows]


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt."""

    state: str
    """SENT, QUEUED where a later attempt may succeed, or another state, which ends the row."""
    reason: str = ""
    server_works: bool = True
    """Whether the next row may fare better at once; otherwise the run ends."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Further columns to write, such as the id that the receiver has given it."""


Row = TypeVar("Row", bound=OutboxRow)


@dataclass(frozen=True)
class Outbox(Generic[Row]):
    """How the rows of one table are sent."""

    model: type[Row]
    lease: float
    """Seconds for which a worker has a row to itself: more than sending it can take."""
    max_attempts: int = 8
    first_pause: float = 60
    """Seconds between the first two attempts; each further pause is four times as long."""
    longest_pause: float = 4 * 3600
    label: Callable[[Row], str] = lambda row: f"{row.__tablename__} {row.id}"
    """How the log calls a row."""
    refuse: Callable[[Session, Row], Outcome | None] = lambda _session, _row: None
    """Ends a row that is not to be sent after all, by an outcome; called as a worker takes it."""
    ended: Callable[[Session, Row], object] = lambda _session, _row: None
    """Called in the transaction that ends a row, sent or not; it may publish a message."""

    def send_due(
        self, send: Callable[[Row], Outcome | None], *, again: Callable[[], object]
    ) -> int:
        """Send the rows that are due, the one due longest first, and return how many were sent.

        `send` gets a row that no session holds; without an outcome from it, the row is sent. An
        error is logged and counts as an attempt. See `turns` for `again`.
        """
        sent = 0
        for _ in turns(again):
            row = self.claim()
            if row is None:
                break
            outcome = self._attempt(send, row)
            self.record(row, outcome)
            sent += outcome.state == OutboxState.SENT
            if not outcome.server_works:
                break  # the others keep their attempts for when it does
        return sent

    def claim(self) -> Row | None:
        """Lease the row that has been due longest; no other worker takes it until the lease ends.

        One at a time, so that a lease need cover no more than one attempt. Due rows that are not
        to be sent are ended on the way: refused ones, and those whose last worker was lost.
        """
        now = func.statement_timestamp()  # a test's whole transaction has one `now()`
        due = (
            select(self.model, now)
            .where(col(self.model.state).in_(UNFINISHED), col(self.model.due_at) <= now)
            .order_by(col(self.model.due_at), col(self.model.id))
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        while True:
            with service.sync_session_maker() as session:
                found = session.exec(due).first()
                if found is None:
                    return None
                row, began = found  # by the database's clock, which ends the lease
                if row.state == OutboxState.SENDING:
                    self._log(logging.WARNING, row, "its worker was lost, maybe after sending it")
                outcome = self.refuse(session, row)
                if outcome is None and row.attempts >= self.max_attempts:
                    outcome = Outcome(OutboxState.FAILED, "the worker of the last attempt was lost")
                if outcome is None:
                    row.state, row.attempts = OutboxState.SENDING, row.attempts + 1
                    row.due_at = began + timedelta(seconds=self.lease)
                    session.commit()
                    return row
                self._apply(session, row, outcome, began)
                self._commit(session, row)

    def record(self, claimed: Row, outcome: Outcome) -> None:
        """Record the outcome of a claimed row's attempt, unless the row is this worker's no more.

        Tried again for some seconds, see `record_in_any_case`.
        """
        what = f"{self.label(claimed)}, {outcome.state},"
        record_in_any_case(lambda: self._record(claimed, outcome), what)

    def pause_after(self, attempts: int) -> float:
        """Seconds from an attempt to the next."""
        return back_off(attempts, first=self.first_pause, longest=self.longest_pause)

    def _attempt(self, send: Callable[[Row], Outcome | None], row: Row) -> Outcome:
        try:
            return send(row) or Outcome(OutboxState.SENT)
        except Exception as error:  # which must not stop the rows behind it
            logger.exception("%s%s failed", get_task_id(), self.label(row))
            return Outcome(OutboxState.QUEUED, f"{type(error).__name__}: {first_line(error)}")

    def _record(self, claimed: Row, outcome: Outcome) -> None:
        still_claimed = (
            select(self.model, func.statement_timestamp())
            .where(
                col(self.model.id) == claimed.id,
                col(self.model.state) == OutboxState.SENDING,
                col(self.model.attempts) == claimed.attempts,
            )
            .with_for_update()
        )
        with service.sync_session_maker() as session:
            found = session.exec(still_claimed).first()
            if found is None:  # its lease has ended, or somebody else has ended it
                self._log(logging.INFO, claimed, f"{outcome.state}, but no longer this worker's")
                return
            row, now = found
            self._apply(session, row, outcome, now)
            self._commit(session, row)
            self._log(logging.INFO, row, f"{row.state} after attempt {row.attempts}")

    def _apply(self, session: Session, row: Row, outcome: Outcome, now: datetime) -> None:
        # PostgreSQL stores neither NUL nor half a surrogate.
        reason = outcome.reason.replace("\0", "").encode(errors="replace").decode()
        reason = mask_secrets(reason)  # a server may repeat what it was sent
        row.state, row.error = outcome.state, reason[:LONGEST_ERROR]
        for name, value in outcome.values.items():
            setattr(row, name, value)
        if row.state == OutboxState.QUEUED:
            if row.attempts < self.max_attempts:
                row.due_at = now + timedelta(seconds=self.pause_after(row.attempts))
                return
            row.state = OutboxState.FAILED
        if row.state == OutboxState.SENT:
            row.sent_at = datetime.now(UTC)
        self.ended(session, row)

    def _commit(self, session: Session, row: Row) -> None:
        session.commit()
        if row.state == OutboxState.FAILED:
            count_failure(self.model)

    def _log(self, level: int, row: Row, what: str) -> None:
        # Without the reason, which may hold addresses: more people read logs than the outbox.
        logger.log(level, "%s%s: %s", get_task_id(), self.label(row), what)


def record_in_any_case(record: Callable[[], object], what: str) -> None:
    """Record an outcome, and try again for some seconds while the database is away.

    What was sent and is not recorded as sent would be sent once more.
    """
    for pause in (*RECORD_PAUSES_SECONDS, None):
        try:
            record()
        except Exception as error:
            if pause is None or not is_outage(error):
                raise
            logger.warning("%s%s cannot be recorded: %s", get_task_id(), what, first_line(error))
            time.sleep(pause)
        else:
            return


FAILURES = "failed:"
"""What `kit.redis.count_event` counts under this and a table's name: rows that were given up."""


def count_failure(model: type[SQLModel]) -> None:
    """Count a row that was given up; called after the commit."""
    count_event(f"{FAILURES}{inspect(model).local_table.name}")


def turns(again: Callable[[], object]) -> Iterator[None]:
    """Yield until `RUN_SECONDS` are over, then call `again`, which has another run do the rest."""
    end = time.monotonic() + RUN_SECONDS
    yield
    while time.monotonic() <= end:
        yield
    again()


def back_off(attempts: int, *, first: float, longest: float) -> float:
    """Seconds from an attempt to the next: `first`, four times as many, and so on to `longest`."""
    pause = min(first * 4.0 ** min(attempts - 1, 99), longest)
    return pause * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 (nothing to guess)


def delete_old(
    model: type[SQLModel],
    *,
    days: float,
    unfinished: Sequence[str] = UNFINISHED,
    since: str = "created_at",
) -> int:
    """Delete rows created more than `days` days ago, in batches, and return how many.

    A table is read in the order of its `id`. Where that counts up, it is read as far as the first
    batch that has no old row: what follows is newer.

    Args:
        model: a table with the column `id`.
        days: how long a row is kept.
        unfinished: values of its column `state` in which a row stays; empty where it has no states.
        since: the column with the time of a row's creation.
    """
    columns = inspect(model).columns
    key, old = columns["id"], columns[since] < datetime.now(UTC) - timedelta(days=days)
    ended = [columns["state"].not_in(unfinished)] if unfinished else []
    batch = following = select(key, old).order_by(key).limit(BATCH_SIZE)
    deleted = 0
    while deleted < MOST_BATCHES * BATCH_SIZE:
        with service.sync_session_maker.begin() as session:
            rows = session.exec(following).all()
            has_old = any(is_old for _, is_old in rows)
            if has_old:
                of_batch = key.between(rows[0][0], rows[-1][0])
                due = select(key).where(of_batch, old, *ended).with_for_update(skip_locked=True)
                deleted += session.exec(delete(model).where(key.in_(due))).rowcount
        if len(rows) < BATCH_SIZE or (isinstance(key.type, Integer) and not has_old):
            break
        following = batch.where(key > rows[-1][0])
    return deleted
