"""Several at once, on rows that are committed for good."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler

import pytest
from sqlalchemy import delete, text
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import Session, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.extensions.messenger.events import IncomingMessage
from app.extensions.messenger.inbox import take_over
from app.extensions.messenger.models import Direction, MessageState, MessengerMessage
from app.extensions.messenger.tasks import send_due_replies
from app.extensions.messenger.tests.platform_server import PlatformServer, answer
from kit.messages import Message
from kit.testing import committing_workers

WORKERS = 3
DELIVERIES = 6

INCOMING = IncomingMessage(
    mid="m_1",
    page_id="1",
    psid="11",
    text="hello",
    attachments=[],
    postback=None,
    sent_at=datetime(2026, 1, 1, tzinfo=UTC),
)


@pytest.fixture
async def committing_engine(test_engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """An engine on which commits are for good, until the end of the test clears them away."""
    yield test_engine
    async with test_engine.begin() as connection:
        await connection.execute(delete(MessengerMessage))


@pytest.fixture
def engine(test_database: str) -> Iterator[Engine]:
    with committing_workers(WORKERS) as engine:
        yield engine
        with Session(engine) as session:
            session.exec(delete(MessengerMessage))
            session.commit()


def add_replies(engine: Engine, count: int) -> None:
    with Session(engine) as session:
        session.add_all(
            MessengerMessage(
                direction=Direction.OUT, psid="11", text=str(number), state=MessageState.QUEUED
            )
            for number in range(count)
        )
        session.commit()


async def test_of_deliveries_at_the_same_moment_one_is_taken_over(
    committing_engine: AsyncEngine, published: list[Message]
) -> None:
    async def deliver() -> bool:
        async with AsyncSession(committing_engine, expire_on_commit=False) as session:
            return await take_over(session, INCOMING)

    async with committing_engine.connect() as holder:
        # All of them have come as far as the insert before the first of them gets there.
        await holder.execute(text("LOCK TABLE messenger_message IN SHARE MODE"))
        deliveries = [asyncio.create_task(deliver()) for _ in range(DELIVERIES)]
        await wait_for_locks(committing_engine, DELIVERIES)
        await holder.rollback()
        taken = await asyncio.gather(*deliveries)

    assert sorted(taken) == [False] * (DELIVERIES - 1) + [True]
    assert len(published) == 1
    async with AsyncSession(committing_engine) as session:
        assert len((await session.exec(select(MessengerMessage))).all()) == 1


async def wait_for_locks(engine: AsyncEngine, count: int) -> None:
    """Until so many transactions of this database wait for a lock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(10), engine.connect() as observer:
        while await observer.scalar(waiting) != count:
            await observer.rollback()
            await asyncio.sleep(0.01)


def test_no_two_workers_send_the_same_reply(engine: Engine, platform: PlatformServer) -> None:
    add_replies(engine, 30)
    start = threading.Barrier(WORKERS)

    def work(_: int) -> int:
        start.wait()
        count: int = send_due_replies()
        return count

    with ThreadPoolExecutor(WORKERS) as workers:
        counts = list(workers.map(work, range(WORKERS)))

    assert sum(counts) == 30
    assert sum(count > 0 for count in counts) > 1, "only one of them has worked"
    assert sorted(platform.texts, key=int) == [str(number) for number in range(30)]


def test_no_connection_is_held_while_the_platform_takes_its_time(
    engine: Engine, platform: PlatformServer
) -> None:
    held: list[int] = []

    def look(request: BaseHTTPRequestHandler) -> None:
        held.append(engine.pool.checkedout())  # type: ignore[attr-defined]
        answer(200, {"message_id": "m_1"})(request)

    platform.answers = [look]
    add_replies(engine, 1)
    assert send_due_replies() == 1
    assert held == [0]
