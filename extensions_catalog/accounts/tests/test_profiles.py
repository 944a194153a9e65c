"""A profile for every calling user, written no more often than necessary."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, async_sessionmaker
from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core import database
from app.extensions.accounts import profiles
from app.extensions.accounts.models import AccountsProfile, CurrentUser
from app.extensions.accounts.profiles import RecentSightings, note_sighting, recent_sightings
from kit import messages
from kit.database import AsyncReadOnlySession

ADA = CurrentUser(
    id=UUID("5d2f7a1e-8c43-4b7e-9d6a-1f0b3c5e7a90"), email="ada@example.com", role="authenticated"
)


@pytest.fixture(autouse=True)
def _no_recent_sightings() -> Iterator[None]:
    recent_sightings.clear()
    yield
    recent_sightings.clear()


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Payloads of the messages about new profiles."""
    payloads: list[dict[str, Any]] = []

    def note(message: messages.Message) -> None:
        payloads.append(dict(message.payload))

    monkeypatch.setattr(messages, "_handlers", {})
    messages.handles("accounts.profile-created")(note)
    return payloads


async def stored(session: AsyncSession) -> AccountsProfile:
    statement = select(AccountsProfile).execution_options(populate_existing=True)
    return (await session.exec(statement)).one()


async def seen(session: AsyncSession, ago: timedelta, **values: Any) -> AccountsProfile:
    """Store a profile that was last seen this long ago."""
    then = datetime.now(UTC) - ago
    profile = AccountsProfile(
        **{"id": ADA.id, "email": ADA.email, "last_seen_at": then, "created_at": then, **values}
    )
    session.add(profile)
    await session.commit()
    return profile


@contextmanager
def statements_on(connection: AsyncConnection) -> Iterator[list[str]]:
    """The first words of the statements that are executed meanwhile, without savepoints."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        first_word = statement.split(maxsplit=1)[0]
        if first_word not in ("SAVEPOINT", "RELEASE", "ROLLBACK"):
            statements.append(first_word)

    assert connection.sync_connection is not None
    event.listen(connection.sync_connection, "before_cursor_execute", note)
    yield statements
    event.remove(connection.sync_connection, "before_cursor_execute", note)


@pytest.mark.usefixtures("session_makers")
class TestFirstSight:
    async def test_makes_a_profile_and_publishes_it(
        self, db_session: AsyncSession, published: list[dict[str, Any]]
    ) -> None:
        await note_sighting(ADA)
        profile = await stored(db_session)
        assert (profile.id, profile.email) == (ADA.id, "ada@example.com")
        assert profile.display_name is None
        assert profile.created_at is not None
        assert published == [
            {
                "user_id": str(ADA.id),
                "email": "ada@example.com",
                "mail_to": "ada@example.com",
                "is_anonymous": False,
                "created_at": profile.created_at.isoformat(),
            }
        ]

    async def test_who_has_no_address_gets_no_mail(self, published: list[dict[str, Any]]) -> None:
        await note_sighting(ADA.model_copy(update={"email": None, "is_anonymous": True}))
        assert published[0]["email"] is None
        assert published[0]["is_anonymous"] is True
        assert "mail_to" not in published[0]

    async def test_is_no_first_sight_for_another_process(
        self, db_session: AsyncSession, published: list[dict[str, Any]]
    ) -> None:
        await note_sighting(ADA)
        recent_sightings.clear()
        await note_sighting(ADA)
        assert len(published) == 1
        await stored(db_session)

    async def test_a_deleted_profile_is_made_anew(
        self, db_session: AsyncSession, published: list[dict[str, Any]]
    ) -> None:
        await note_sighting(ADA)
        await db_session.delete(await stored(db_session))
        await db_session.commit()
        recent_sightings.clear()
        await note_sighting(ADA)
        assert len(published) == 2

    async def test_fails_when_it_cannot_be_written(
        self, monkeypatch: pytest.MonkeyPatch, published: list[dict[str, Any]]
    ) -> None:
        monkeypatch.setattr(database, "async_session_maker", out_of_order)
        with pytest.raises(OperationalError):
            await note_sighting(ADA)
        assert not recent_sightings.holds(ADA)


@pytest.mark.usefixtures("session_makers")
class TestLaterSight:
    async def test_a_moment_later_nothing_is_asked(self, connection: AsyncConnection) -> None:
        await note_sighting(ADA)
        with statements_on(connection) as statements:
            await note_sighting(ADA)
        assert statements == []

    async def test_within_a_minute_nothing_is_written(
        self, db_session: AsyncSession, connection: AsyncConnection
    ) -> None:
        await seen(db_session, timedelta(seconds=50))
        with statements_on(connection) as statements:
            await note_sighting(ADA)
        assert statements == ["SELECT"]

    async def test_after_a_minute_it_is_noted(self, db_session: AsyncSession) -> None:
        before = await seen(db_session, timedelta(seconds=70), display_name="Ada L.")
        since = before.created_at
        await note_sighting(ADA)
        profile = await stored(db_session)
        assert profile.last_seen_at is not None
        assert datetime.now(UTC) - profile.last_seen_at < timedelta(seconds=30)
        assert (profile.created_at, profile.display_name) == (since, "Ada L.")

    async def test_a_new_address_is_noted_at_once(self, db_session: AsyncSession) -> None:
        await note_sighting(ADA)
        await note_sighting(ADA.model_copy(update={"email": "lovelace@example.com"}))
        assert (await stored(db_session)).email == "lovelace@example.com"

    async def test_others_profiles_stay_as_they_are(self, db_session: AsyncSession) -> None:
        other = await seen(db_session, timedelta(days=1), id=uuid4(), email="bob@example.com")
        last_seen_at = other.last_seen_at
        await seen(db_session, timedelta(days=1))
        await note_sighting(ADA)
        await db_session.refresh(other)
        assert (other.email, other.last_seen_at) == ("bob@example.com", last_seen_at)

    async def test_a_failed_update_refuses_no_one(
        self,
        db_session: AsyncSession,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        await seen(db_session, timedelta(days=1))
        monkeypatch.setattr(database, "async_session_maker", out_of_order)
        await note_sighting(ADA)
        assert "a user's last visit was not stored: read-only" in caplog.text


class TestRace:
    @pytest.fixture
    async def committed_profiles(
        self, test_engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[None]:
        """Connections of their own for all sessions, whose rows are deleted at the end."""
        options: dict[str, Any] = {"expire_on_commit": False}
        read = async_sessionmaker(test_engine, class_=AsyncReadOnlySession, **options)
        write = async_sessionmaker(test_engine, class_=AsyncSession, **options)
        monkeypatch.setattr(database, "read_session_maker", read)
        monkeypatch.setattr(database, "async_session_maker", write)
        yield
        async with write() as session:
            await session.exec(delete(AccountsProfile).where(col(AccountsProfile.id) == ADA.id))
            await session.commit()

    @pytest.mark.usefixtures("committed_profiles")
    async def test_one_of_many_makes_the_profile_and_publishes_it(
        self, published: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # All have looked before the first one writes.
        looked = asyncio.Barrier(8)
        create = profiles._create

        async def create_together(user: CurrentUser) -> None:
            await looked.wait()
            await create(user)

        monkeypatch.setattr(profiles, "_create", create_together)
        await asyncio.gather(*(note_sighting(ADA) for _ in range(8)))
        assert len(published) == 1
        async with database.read_session_maker() as session:
            await stored(session)


class TestRecentSightings:
    def test_forgets_after_its_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 1000.0
        monkeypatch.setattr(profiles, "time", SimpleNamespace(monotonic=lambda: now))
        recent = RecentSightings(seconds=60, size=10)
        recent.add(ADA)
        now += 59.9
        assert recent.holds(ADA)
        now += 0.1
        assert not recent.holds(ADA)

    def test_keeps_no_more_than_its_size(self) -> None:
        recent = RecentSightings(seconds=60, size=2)
        users = [ADA.model_copy(update={"id": uuid4()}) for _ in range(3)]
        for user in users:
            recent.add(user)
        assert [recent.holds(user) for user in users] == [False, True, True]


def out_of_order() -> AsyncSession:
    """Fails like a database that has become read-only."""
    raise OperationalError("UPDATE", {}, Exception("read-only"))
