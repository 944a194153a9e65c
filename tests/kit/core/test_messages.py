"""Messages: what runs before commit, what after, and what a failing handler does to the others."""

import asyncio
import threading
from functools import partial

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import QueuePool
from sqlmodel import Session, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.config import settings
from kit import messages
from kit.context import bind_request_id, get_request_id, unbind_request_id
from kit.messages import (
    EVERY_MESSAGE,
    Message,
    call_after_commit,
    handles,
    publish,
    publish_sync,
    setup_message_handlers,
)
from kit.models import AuditEntry
from kit.places import service


@pytest.fixture(autouse=True)
def no_other_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "_handlers", {})


@pytest.fixture
def calls() -> list[str]:
    """After-commit handlers of these tests note here that they ran."""
    return []


@pytest.fixture
def noting(calls: list[str]) -> list[str]:
    @handles("order.placed", after_commit=True)
    def note(message: Message) -> None:
        calls.append(str(message.payload["number"]))

    return calls


def entry(actor: str) -> AuditEntry:
    return AuditEntry(action="test", actor=actor)


def broken_entry() -> AuditEntry:
    """Violates NOT NULL when it is flushed."""
    broken = entry("broken")
    broken.action = None  # type: ignore[assignment]
    return broken


async def actors(session: AsyncSession) -> set[str]:
    return set(await session.exec(select(AuditEntry.actor).where(AuditEntry.action == "test")))


async def test_nobody_needs_to_handle_a_message(db_session: AsyncSession) -> None:
    await publish(db_session, "order.placed", {})


@pytest.mark.parametrize("after_commit", [False, True])
async def test_a_handler_of_every_message_is_told_which_one_it_is(
    db_session: AsyncSession, *, after_commit: bool
) -> None:
    seen: list[str] = []

    @handles(EVERY_MESSAGE, after_commit=after_commit)
    def pass_on(message: Message) -> None:
        seen.append(message.name)

    for name in ("order.placed", "order.paid"):
        await publish(db_session, name, {})
    await db_session.commit()

    assert seen == ["order.placed", "order.paid"]


class TestBeforeCommit:
    async def test_writes_with_the_sender(self, db_session: AsyncSession) -> None:
        @handles("order.placed")
        def write(message: Message) -> None:
            message.session.add(entry(message.payload["by"]))

        await publish(db_session, "order.placed", {"by": "ada"})
        assert await actors(db_session) == {"ada"}
        await db_session.rollback()
        assert await actors(db_session) == set()

    async def test_sees_what_the_sender_has_not_flushed(self, db_session: AsyncSession) -> None:
        seen: list[str] = []

        @handles("order.placed")
        def look(message: Message) -> None:
            seen.extend(message.session.exec(select(AuditEntry.actor)).all())

        db_session.add(entry("ada"))
        await publish(db_session, "order.placed", {})
        assert "ada" in seen

    async def test_failure_undoes_its_own_writes_alone(
        self, db_session: AsyncSession, caplog: pytest.LogCaptureFixture
    ) -> None:
        @handles("order.placed")
        def fail(message: Message) -> None:
            message.session.add(entry("failing"))
            message.session.flush()
            raise KeyError("oh")

        @handles("order.placed")
        def break_the_transaction(message: Message) -> None:
            message.session.add(broken_entry())

        @handles("order.placed")
        def write(message: Message) -> None:
            message.session.add(entry("handler"))

        sent = entry("sender")
        db_session.add(sent)
        await publish(db_session, "order.placed", {})
        await db_session.commit()
        assert await actors(db_session) == {"sender", "handler"}
        assert sent.actor == "sender"  # still loaded: nothing was expired by the rolled back part
        failed = [r.getMessage() for r in caplog.records if r.name == "kit.messages"]
        assert len(failed) == 2
        assert "fail" in failed[0]
        assert "order.placed" in failed[0]

    async def test_error_in_the_senders_rows_is_the_senders(self, db_session: AsyncSession) -> None:
        @handles("order.placed")
        def never(message: Message) -> None:
            pytest.fail("ran on a broken transaction")

        db_session.add(broken_entry())
        with pytest.raises(IntegrityError):
            await publish(db_session, "order.placed", {})

    def test_sync_sender(self, sync_db_session: Session) -> None:
        @handles("order.placed")
        def write(message: Message) -> None:
            message.session.add(entry("sync"))

        publish_sync(sync_db_session, "order.placed", {})
        sync_db_session.commit()
        found = sync_db_session.exec(select(AuditEntry).where(AuditEntry.action == "test")).one()
        assert found.actor == "sync"


class TestAfterCommit:
    async def test_waits_for_the_commit(self, db_session: AsyncSession, noting: list[str]) -> None:
        await publish(db_session, "order.placed", {"number": 1})
        assert noting == []
        await db_session.commit()
        assert noting == ["1"]

    async def test_runs_once(self, db_session: AsyncSession, noting: list[str]) -> None:
        await publish(db_session, "order.placed", {"number": 1})
        await db_session.commit()
        await publish(db_session, "order.placed", {"number": 2})
        await db_session.commit()
        await db_session.commit()
        assert noting == ["1", "2"]

    async def test_not_after_a_rollback(self, db_session: AsyncSession, noting: list[str]) -> None:
        await publish(db_session, "order.placed", {"number": 1})
        await db_session.rollback()
        db_session.add(entry("later"))
        await db_session.commit()
        assert noting == []

    async def test_not_after_a_close(self, db_session: AsyncSession, noting: list[str]) -> None:
        await publish(db_session, "order.placed", {"number": 1})
        await db_session.close()
        assert noting == []

    async def test_not_when_its_savepoint_was_rolled_back(
        self, db_session: AsyncSession, noting: list[str]
    ) -> None:
        await publish(db_session, "order.placed", {"number": "outer"})
        savepoint = await db_session.begin_nested()
        await publish(db_session, "order.placed", {"number": "undone"})
        await savepoint.rollback()
        async with db_session.begin_nested(), db_session.begin_nested():
            await publish(db_session, "order.placed", {"number": "kept"})
        assert noting == []
        await db_session.commit()
        assert noting == ["outer", "kept"]

    async def test_not_when_the_savepoint_around_was_rolled_back(
        self, db_session: AsyncSession, noting: list[str]
    ) -> None:
        around = await db_session.begin_nested()
        async with db_session.begin_nested():
            await publish(db_session, "order.placed", {"number": "undone"})
        await around.rollback()
        await db_session.commit()
        assert noting == []

    async def test_runs_in_a_thread_with_the_request_id(self, db_session: AsyncSession) -> None:
        seen = []

        @handles("order.placed", after_commit=True)
        def look(message: Message) -> None:
            seen.append((threading.current_thread(), get_request_id()))

        token = bind_request_id("request-1")
        await publish(db_session, "order.placed", {})
        await db_session.commit()
        unbind_request_id(token)
        [(thread, request_id)] = seen
        assert thread is not threading.main_thread()
        assert request_id == "request-1"

    async def test_a_slow_one_does_not_hold_up_the_event_loop(
        self, db_session: AsyncSession
    ) -> None:
        running, release = threading.Event(), threading.Event()

        @handles("order.placed", after_commit=True)
        def wait(message: Message) -> None:
            running.set()
            assert release.wait(timeout=10)

        await publish(db_session, "order.placed", {})
        commit = asyncio.create_task(db_session.commit())
        assert await asyncio.to_thread(running.wait, 10)
        assert not commit.done()
        release.set()
        await commit

    async def test_the_senders_connection_is_free_by_then(
        self, test_database: str, calls: list[str]
    ) -> None:
        engine = create_async_engine(
            test_database, connect_args=settings.database_connect_args, pool_size=1
        )
        pool = engine.sync_engine.pool
        assert isinstance(pool, QueuePool)

        @handles("order.placed")
        def look_before(message: Message) -> None:
            message.session.connection()
            calls.append(f"before {pool.checkedout()}")

        @handles("order.placed", after_commit=True)
        def look_after(message: Message) -> None:
            calls.append(f"after {pool.checkedout()}")

        async with AsyncSession(engine) as session:
            await publish(session, "order.placed", {})
            await session.commit()
        await engine.dispose()
        assert calls == ["before 1", "after 0"]

    async def test_of_a_handlers_own_message_runs_in_a_thread_too(
        self, db_session: AsyncSession
    ) -> None:
        threads = []

        @handles("order.placed")
        def pass_on(message: Message) -> None:
            publish_sync(message.session, "order.noted", {})

        @handles("order.noted", after_commit=True)
        def look(message: Message) -> None:
            threads.append(threading.current_thread())

        await publish(db_session, "order.placed", {})
        await db_session.commit()
        assert len(threads) == 1
        assert threads[0] is not threading.main_thread()

    async def test_failure_reaches_neither_the_others_nor_the_sender(
        self, db_session: AsyncSession, calls: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        @handles("order.placed", after_commit=True)
        def fail(message: Message) -> None:
            raise KeyError("oh")

        @handles("order.placed", after_commit=True)
        def note(message: Message) -> None:
            calls.append("ran")

        db_session.add(entry("sender"))
        await publish(db_session, "order.placed", {})
        await db_session.commit()
        assert calls == ["ran"]
        assert await actors(db_session) == {"sender"}
        assert any("fail" in record.getMessage() for record in caplog.records)

    async def test_has_a_session_of_its_own_that_is_committed(
        self, db_session: AsyncSession, sync_db_session: Session
    ) -> None:
        @handles("order.placed", after_commit=True)
        def write(message: Message) -> None:
            message.session.add(entry("after"))

        await publish(db_session, "order.placed", {})
        await db_session.commit()
        found = sync_db_session.exec(select(AuditEntry).where(AuditEntry.action == "test")).one()
        assert found.actor == "after"

    async def test_opens_no_session_that_it_does_not_use(
        self, db_session: AsyncSession, noting: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened: list[int] = []
        maker = partial(opened.append, 1)
        monkeypatch.setattr(service.module("core.database"), "sync_session_maker", maker)
        await publish(db_session, "order.placed", {"number": 1})
        await db_session.commit()
        assert (noting, opened) == (["1"], [])

    async def test_its_session_is_closed_when_it_fails(
        self, db_session: AsyncSession, sync_db_session: Session
    ) -> None:
        sessions: list[Session] = []

        @handles("order.placed", after_commit=True)
        def fail(message: Message) -> None:
            sessions.append(message.session)
            message.session.add(entry("failed"))
            message.session.flush()
            raise ConnectionError

        await publish(db_session, "order.placed", {})
        await db_session.commit()
        assert not sessions[0].in_transaction()
        written = select(AuditEntry).where(AuditEntry.actor == "failed")
        assert sync_db_session.exec(written).first() is None

    def test_sync_sender(self, sync_db_session: Session, noting: list[str]) -> None:
        publish_sync(sync_db_session, "order.placed", {"number": 1})
        assert noting == []
        sync_db_session.commit()
        assert noting == ["1"]


class TestCallAfterCommit:
    async def test_not_after_a_rollback(self, db_session: AsyncSession, calls: list[str]) -> None:
        call_after_commit(db_session, lambda: calls.append("called"))
        await db_session.rollback()
        await db_session.commit()
        assert calls == []

    async def test_failure_reaches_neither_the_others_nor_the_sender(
        self, db_session: AsyncSession, calls: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail() -> None:
            raise KeyError("oh")

        db_session.add(entry("sender"))
        call_after_commit(db_session, fail)
        call_after_commit(db_session, lambda: calls.append("called"))
        await db_session.commit()
        assert calls == ["called"]
        assert await actors(db_session) == {"sender"}
        assert "failed after a commit: KeyError" in caplog.text

    async def test_the_same_function_is_called_once_a_commit(
        self, db_session: AsyncSession
    ) -> None:
        threads = []

        def note() -> None:
            threads.append(threading.current_thread())

        call_after_commit(db_session, note)
        async with db_session.begin_nested():
            call_after_commit(db_session, note)
        assert threads == []
        await db_session.commit()
        assert len(threads) == 1
        assert threads[0] is not threading.main_thread()
        call_after_commit(db_session, note)
        await db_session.commit()
        assert len(threads) == 2

    def test_sync_sender(self, sync_db_session: Session, calls: list[str]) -> None:
        call_after_commit(sync_db_session, lambda: calls.append("called"))
        assert calls == []
        sync_db_session.commit()
        assert calls == ["called"]


class TestRegistration:
    async def test_again_replaces(self, db_session: AsyncSession) -> None:
        calls = []

        def register(number: int) -> None:
            @handles("order.placed")
            def note(message: Message) -> None:
                calls.append(number)

        register(1)
        register(2)  # as a reloaded module does
        await publish(db_session, "order.placed", {})
        assert calls == [2]

    def test_setup_can_be_called_again(self) -> None:
        setup_message_handlers()
        setup_message_handlers()
