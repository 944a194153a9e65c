import asyncio
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import Session, select
from sqlmodel.ext.asyncio.session import AsyncSession

from kit.models import ApiToken
from kit.security import _credentials as credentials
from kit.security import (
    create_api_token,
    ensure_api_token,
    revoke_api_token,
)
from kit.security._credentials import KnownToken, TokenCache, find_token

Result = TypeVar("Result")


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


def stored(session: Session, name: str) -> ApiToken:
    return session.exec(
        select(ApiToken).where(ApiToken.name == name).execution_options(populate_existing=True)
    ).one()


async def call(
    session: AsyncSession, function: Callable[..., Result], *arguments: object
) -> Result:
    """The function's result, on the sync face of the session, committed."""
    result = await session.run_sync(function, *arguments)
    await session.commit()
    return result


async def make_token(
    session: AsyncSession, name: str = "job", expires_at: datetime | None = None
) -> str:
    return await call(session, create_api_token, name, expires_at)


@contextmanager
def statements_on(connection: AsyncConnection) -> Iterator[list[str]]:
    """What is executed meanwhile, savepoints aside."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    assert connection.sync_connection is not None
    event.listen(connection.sync_connection, "before_cursor_execute", note)
    yield statements
    event.remove(connection.sync_connection, "before_cursor_execute", note)


class TestCreateApiToken:
    @pytest.mark.parametrize("name", ["", "  ", "x" * 101])
    def test_refuses_unusable_names(self, sync_db_session: Session, name: str) -> None:
        with pytest.raises(ValueError, match="1 to 100 characters"):
            create_api_token(sync_db_session, name)

    def test_refuses_the_name_of_a_token_in_use(self, sync_db_session: Session) -> None:
        create_api_token(sync_db_session, "job", soon())
        with pytest.raises(ValueError, match="'job' is in use; revoke it"):
            create_api_token(sync_db_session, "job")

    def test_refuses_an_expiry_in_the_past(self, sync_db_session: Session) -> None:
        with pytest.raises(ValueError, match="is in the past"):
            create_api_token(sync_db_session, "job", datetime.now(UTC))

    def test_refuses_an_expiry_without_time_zone(self, sync_db_session: Session) -> None:
        with pytest.raises(ValueError, match="no time zone"):
            create_api_token(sync_db_session, "job", datetime(2999, 1, 1))  # noqa: DTZ001

    def test_stores_only_the_hash(self, sync_db_session: Session) -> None:
        token = create_api_token(sync_db_session, "job")
        row = stored(sync_db_session, "job")
        assert token.startswith("api_")
        assert len(token) == 47
        assert row.token_hash == hashlib.sha256(token.encode()).hexdigest()
        assert row.hint == token[:12]
        assert token not in repr(row.model_dump())

    def test_gives_the_name_of_a_revoked_token_again(self, sync_db_session: Session) -> None:
        first = create_api_token(sync_db_session, "job")
        revoke_api_token(sync_db_session, "job")
        second = create_api_token(sync_db_session, "job")
        assert first != second
        assert stored(sync_db_session, "job").revoked_at is None


class TestEnsureApiToken:
    def test_refuses_what_no_lookup_would_find(self, sync_db_session: Session) -> None:
        with pytest.raises(ValueError, match="has to begin with api_"):
            ensure_api_token(sync_db_session, "local", "known-beforehand")

    def test_can_be_repeated(self, sync_db_session: Session) -> None:
        ensure_api_token(sync_db_session, "local", "api_known-beforehand")
        first = stored(sync_db_session, "local").model_dump()
        ensure_api_token(sync_db_session, "local", "api_known-beforehand")
        assert stored(sync_db_session, "local").model_dump() == first

    def test_replaces_another_token(self, sync_db_session: Session) -> None:
        ensure_api_token(sync_db_session, "local", "api_old")
        ensure_api_token(sync_db_session, "local", "api_new")
        assert stored(sync_db_session, "local").token_hash == credentials.hash_token("api_new")

    def test_reinstates_a_revoked_token(self, sync_db_session: Session) -> None:
        ensure_api_token(sync_db_session, "local", "api_known-beforehand")
        revoke_api_token(sync_db_session, "local")
        ensure_api_token(sync_db_session, "local", "api_known-beforehand")
        assert stored(sync_db_session, "local").revoked_at is None


class TestRevokeApiToken:
    def test_tells_when_there_is_none(self, sync_db_session: Session) -> None:
        assert not revoke_api_token(sync_db_session, "nobody")

    def test_works_once(self, sync_db_session: Session) -> None:
        create_api_token(sync_db_session, "job")
        assert revoke_api_token(sync_db_session, "job")
        assert not revoke_api_token(sync_db_session, "job")


@pytest.mark.usefixtures("token_sessions")
class TestFindToken:
    async def test_refuses_an_unknown_token(self) -> None:
        assert await find_token("api_unknown") is None

    async def test_refuses_a_revoked_token(self, db_session: AsyncSession) -> None:
        token = await make_token(db_session)
        await call(db_session, revoke_api_token, "job")
        assert await find_token(token) is None

    async def test_refuses_an_expired_token_even_when_remembered(
        self, db_session: AsyncSession, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        expires_at = soon()
        token = await make_token(db_session, expires_at=expires_at)
        assert await find_token(token)

        class Later(datetime):
            @classmethod
            def now(cls, _zone: Any = None) -> datetime:  # type: ignore[override]
                return expires_at

        monkeypatch.setattr(credentials, "datetime", Later)
        assert await find_token(token) is None

    async def test_asks_the_database_once(
        self, db_session: AsyncSession, connection: AsyncConnection
    ) -> None:
        token = await make_token(db_session)
        with statements_on(connection) as statements:
            assert await find_token(token)
            asked = len(statements)
            assert await find_token(token)
        assert asked > 0
        assert len(statements) == asked

    async def test_those_asked_for_at_once_take_one_statement(
        self, db_session: AsyncSession, connection: AsyncConnection
    ) -> None:
        tokens = [await call(db_session, create_api_token, name) for name in ("a", "b", "c")]
        await db_session.commit()
        with statements_on(connection) as statements:
            found = await asyncio.gather(*map(find_token, [*tokens, "api_unknown", tokens[0]]))
        asked = [each for each in statements if "SAVEPOINT" not in each.upper()]
        assert len(asked) == 1
        assert [each and each.name for each in found] == ["a", "b", "c", None, "a"]

    async def test_one_that_asks_no_more_leaves_the_others_theirs(
        self, db_session: AsyncSession
    ) -> None:
        token = await make_token(db_session)
        asked = [asyncio.create_task(find_token(token)) for _ in range(2)]
        await asyncio.sleep(0)
        asked[0].cancel()
        assert await asked[1]

    async def test_a_failure_is_told_to_each(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def fail(*_: object, **__: object) -> None:
            raise TimeoutError

        monkeypatch.setattr(credentials, "write_rows", fail)
        asked = (find_token(f"api_{number}") for number in range(2))
        failed = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(each) for each in failed] == [TimeoutError, TimeoutError]

    async def test_a_token_of_another_kind_costs_no_lookup(
        self, connection: AsyncConnection
    ) -> None:
        with statements_on(connection) as statements:
            assert await find_token("eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl") is None
        assert statements == []

    async def test_a_revocation_by_another_process_holds_after_a_minute(
        self, db_session: AsyncSession, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = Clock(monkeypatch)
        token = await make_token(db_session)
        assert await find_token(token)
        row = (await db_session.exec(select(ApiToken))).one()
        row.revoked_at = datetime.now(UTC)
        db_session.add(row)
        await db_session.commit()
        clock.now += 59
        assert await find_token(token)
        clock.now += 1
        assert await find_token(token) is None


class Clock:
    """Stands in for the cache's clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        # Not `time.monotonic` itself: it is the event loop's clock too, whose timers would fire.
        monkeypatch.setattr("kit.security._credentials.time", self)

    def monotonic(self) -> float:
        return self.now


class TestTokenCache:
    def token(self, digest: str = "digest") -> KnownToken:
        return KnownToken(token_hash=digest, id=1, name="job", expires_at=None, scopes=frozenset())

    def test_forgets_after_its_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock(monkeypatch)
        cache = TokenCache(seconds=60, size=10)
        cache.put(self.token())
        clock.now += 59.9
        assert cache.get("digest") == self.token()
        clock.now += 0.1
        assert cache.get("digest") is None

    def test_keeps_no_more_than_its_size(self) -> None:
        cache = TokenCache(seconds=60, size=2)
        for digest in ("first", "second", "third"):
            cache.put(self.token(digest))
        assert [digest for digest in ("first", "second", "third") if cache.get(digest)] == [
            "second",
            "third",
        ]

    def test_lives_for_a_minute_in_the_service(self) -> None:
        assert credentials.token_cache._seconds <= 60


@pytest.mark.usefixtures("token_sessions")
class TestLastUse:
    async def last_use(self, session: AsyncSession) -> datetime | None:
        statement = select(ApiToken).execution_options(populate_existing=True)
        return (await session.exec(statement)).one().last_used_at

    async def test_a_lookup_notes_it_in_the_same_statement(
        self, db_session: AsyncSession, connection: AsyncConnection
    ) -> None:
        token = await make_token(db_session)
        with statements_on(connection) as statements:
            await find_token(token)
        asked = [each for each in statements if "SAVEPOINT" not in each.upper()]
        assert len(asked) == 1
        assert await self.last_use(db_session) is not None

    async def test_is_noted_once_a_minute(
        self, db_session: AsyncSession, connection: AsyncConnection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = Clock(monkeypatch)
        token = await make_token(db_session)
        for _ in range(60):
            with statements_on(connection) as statements:
                assert await find_token(token)
            clock.now += 1
            assert not statements or clock.now == 1001
        with statements_on(connection) as statements:
            assert await find_token(token)
        assert statements

    async def test_a_refused_token_is_not_used(self, db_session: AsyncSession) -> None:
        token = await make_token(db_session)
        await call(db_session, revoke_api_token, "job")
        assert await find_token(token) is None
        assert await self.last_use(db_session) is None
