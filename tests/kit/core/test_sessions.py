"""What outlives its request: a request's session refuses, sessions of its own do not last."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import anyio
import httpx
import pytest
from asyncpg import NoActiveSQLTransactionError  # type: ignore[import-untyped]
from fastapi import BackgroundTasks, Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse
from sqlalchemy import func, literal
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.database import engine
from app.core.dependencies import ReadSessionDep, SessionDep, get_session
from kit.database import (
    ReadOnlyViolationError,
    SessionClosedError,
    open_read_session,
    open_session,
    stream_rows,
)
from kit.http import build_api_router
from kit.lifespan import refuse_lasting_sessions
from kit.models import AuditAction, AuditEntry
from kit.places import service
from kit.settings import StartupError

ONE = select(literal(1))
BACKEND = select(func.pg_backend_pid())


def checked_out() -> int:
    return engine.pool.checkedout()  # type: ignore[attr-defined, no-any-return]


async def call(application: FastAPI, method: str = "GET") -> httpx.Response:
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        return await http.request(method, "/")


@pytest.fixture(params=[SessionDep, ReadSessionDep], ids=["session", "read session"])
async def dependency(request: pytest.FixtureRequest, test_database: str) -> AsyncIterator[Any]:
    """Each kind of session, on the service's own pool."""
    yield request.param
    await engine.dispose()


USES: dict[str, Callable[[AsyncSession], Awaitable[object]]] = {
    "exec": lambda session: session.exec(ONE),
    "get": lambda session: session.get(AuditEntry, 1),
    "stream": lambda session: session.stream(ONE),
    "connection": lambda session: session.connection(),
    "begin": lambda session: session.begin().start(),
    "begin_nested": lambda session: session.begin_nested().start(),
    "commit": lambda session: session.commit(),
    "flush of a new row": lambda session: session.run_sync(
        lambda sync: sync.add(AuditEntry(action=AuditAction.LOGIN, actor="late"))
    ),
    "run_sync": lambda session: session.run_sync(lambda sync: sync.scalar(ONE)),
}


class TestSessionOfARequest:
    @pytest.mark.parametrize("use", USES.values(), ids=USES)
    async def test_used_after_its_end_is_an_error_with_the_remedy(
        self, dependency: Any, use: Callable[[AsyncSession], Awaitable[object]]
    ) -> None:
        application = FastAPI()
        kept: list[AsyncSession] = []

        @application.get("/")
        async def _read(session: dependency) -> None:
            await session.exec(ONE)
            kept.append(session)

        await call(application)

        with pytest.raises(SessionClosedError, match="open_session"):
            await use(kept[0])
        assert checked_out() == 0

    @pytest.mark.parametrize("kind", ["stream", "background task"])
    async def test_costs_no_connection_where_it_is_used_too_late(
        self, dependency: Any, kind: str
    ) -> None:
        application = FastAPI()

        @application.get("/")
        async def _read(session: dependency, tasks: BackgroundTasks) -> Any:
            async def numbers() -> AsyncIterator[str]:
                for number in await session.exec(ONE):
                    yield f"{number}\n"

            async def use_it() -> None:
                await anext(numbers())

            if kind == "stream":
                return StreamingResponse(numbers())
            tasks.add_task(use_it)
            return None

        for _ in range(12):  # more than the pool has
            with pytest.raises(SessionClosedError, match="open_session"):
                await call(application)

        assert checked_out() == 0

    async def test_a_result_that_is_open_ends_with_it(self, test_database: str) -> None:
        application = FastAPI()

        @application.get("/")
        async def _read(session: SessionDep) -> StreamingResponse:
            result = await session.stream(select(func.generate_series(1, 9000)))

            async def lines() -> AsyncIterator[str]:
                async for row in result:
                    yield f"{row[0]}\n"

            return StreamingResponse(lines())

        with pytest.raises(NoActiveSQLTransactionError):
            await call(application)
        assert checked_out() == 0
        await engine.dispose()

    async def test_in_a_test_it_refuses_as_well(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        application = FastAPI()
        application.dependency_overrides = service.application.dependency_overrides

        @application.get("/")
        async def _read(session: SessionDep, tasks: BackgroundTasks) -> None:
            tasks.add_task(session.exec, ONE)

        with pytest.raises(SessionClosedError, match="open_session"):
            await call(application)


async def test_a_session_of_a_maker_is_closed_for_good_once_the_service_has_started(
    sync_client: Any,
) -> None:
    session = service.sync_session_maker()
    session.close()
    with pytest.raises(InvalidRequestError, match="closed"):
        session.connection()


class TestOwnSession:
    async def test_writes_and_gives_its_connection_back(
        self, db_session: AsyncSession, session_makers: None
    ) -> None:
        async def write() -> None:
            async with open_session() as session:
                session.add(AuditEntry(action=AuditAction.LOGIN, actor="later"))
                await session.commit()

        await asyncio.create_task(write())

        found = await db_session.exec(select(AuditEntry).where(AuditEntry.actor == "later"))
        assert found.one().id

    @pytest.mark.parametrize("make", [open_session, open_read_session])
    async def test_gives_its_connection_back_when_it_is_cancelled(
        self, emptied_engine: AsyncEngine, make: Callable[[], Any]
    ) -> None:
        with anyio.CancelScope() as scope:
            async with make() as session:
                used = await session.scalar(BACKEND)
                scope.cancel()
                await asyncio.sleep(60)
        assert checked_out() == 0
        async with emptied_engine.connect() as connection:
            assert await connection.scalar(BACKEND) == used  # not thrown away
        await emptied_engine.dispose()

    async def test_only_reads(self, session_makers: None) -> None:
        async with open_read_session() as session:
            with pytest.raises(ReadOnlyViolationError):
                await session.exec(delete(AuditEntry))


class Base(DeclarativeBase):
    """Tables of these tests alone."""


class Leg(Base):
    """A row that two columns name."""

    __tablename__ = "leg_of_a_test"
    route: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)


class TestStreamOfRows:
    @pytest.fixture
    async def legs(
        self, connection: AsyncConnection, session_makers: None
    ) -> list[tuple[int, int]]:
        await connection.run_sync(Base.metadata.create_all)
        legs = [(route, number) for route in (1, 2, 10) for number in range(1, 6)]
        async with open_session() as session:
            session.add_all([Leg(route=route, number=number) for route, number in reversed(legs)])
            await session.commit()
        return legs

    @pytest.mark.parametrize("batch", [1, 4, 5, 15, 16])
    async def test_has_each_row_once_in_the_order_of_the_key(
        self, legs: list[tuple[int, int]], batch: int
    ) -> None:
        rows = [(leg.route, leg.number) async for leg in stream_rows(select(Leg), batch=batch)]
        assert rows == legs

    async def test_keeps_conditions(self, legs: list[tuple[int, int]]) -> None:
        statement = select(Leg).where(Leg.number > 3)
        rows = [(leg.route, leg.number) async for leg in stream_rows(statement, batch=2)]
        assert rows == [leg for leg in legs if leg[1] > 3]

    async def test_holds_no_connection_between_batches(
        self, test_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_session() as session:
            session.add_all([AuditEntry(action=AuditAction.LOGIN, actor="x") for _ in range(3)])
            await session.commit()
        try:
            held = [checked_out() async for _ in stream_rows(select(AuditEntry), batch=1)]
            assert held
            assert set(held) == {0}
        finally:
            async with open_session() as session:
                await session.exec(delete(AuditEntry).where(col(AuditEntry.actor) == "x"))
                await session.commit()
            await engine.dispose()

    @pytest.mark.parametrize(
        "statement",
        [
            select(AuditEntry.id),
            select(func.count()).select_from(AuditEntry),
            select(AuditEntry).order_by(AuditEntry.actor),
            select(AuditEntry).limit(5),
        ],
        ids=["column", "aggregate", "order", "limit"],
    )
    async def test_refuses_what_it_cannot_read_in_batches(self, statement: Any) -> None:
        with pytest.raises(ValueError, match="stream_rows"):
            await anext(stream_rows(statement))


WORKS = """
from typing import Annotated
from fastapi import APIRouter, Depends
from app.core.dependencies import SessionDep
async def unit_of_work(session: SessionDep):
    yield session
    await session.commit()

router = APIRouter()

@router.post("/")
async def write(work: Annotated[object, Depends(unit_of_work)]) -> None: ...
"""


class TestUnitOfWork:
    async def test_of_a_function_commits_before_the_answer(
        self, client: httpx.AsyncClient, db_session: AsyncSession
    ) -> None:
        async def unit_of_work(session: SessionDep) -> AsyncIterator[AsyncSession]:
            yield session
            await session.commit()

        application = FastAPI()
        application.dependency_overrides = service.application.dependency_overrides

        @application.post("/")
        async def _write(
            work: Annotated[AsyncSession, Depends(unit_of_work, scope="function")],
        ) -> None:
            work.add(AuditEntry(action=AuditAction.LOGIN, actor="unit of work"))

        assert (await call(application, "POST")).status_code == 200
        found = await db_session.exec(select(AuditEntry).where(AuditEntry.actor == "unit of work"))
        assert found.one().id

    def test_of_a_request_is_refused_with_the_remedy(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        package = tmp_path / "shop_api"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "works.py").write_text(WORKS)
        monkeypatch.syspath_prepend(tmp_path)
        for name in ("shop_api", "shop_api.works"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        pattern = r'scope="function".*works.py:11: .*unit_of_work'
        with pytest.raises(StartupError, match=pattern):
            build_api_router("shop_api")


class TestRouteThatTakesASession:
    @pytest.fixture
    def application(self, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
        application = FastAPI()
        monkeypatch.setattr(type(service), "application", application, raising=False)
        return application

    def test_of_a_websocket_is_refused(self, application: FastAPI) -> None:
        @application.websocket("/track")
        async def track(socket: WebSocket, session: ReadSessionDep) -> None: ...

        with pytest.raises(StartupError, match=r"`track` \(.*\.py:\d+\).*open_session"):
            refuse_lasting_sessions()

    def test_of_a_websocket_by_a_dependency_is_refused(self, application: FastAPI) -> None:
        async def number_of(session: SessionDep) -> int:
            return 1

        @application.websocket("/track")
        async def track(socket: WebSocket, number: Annotated[int, Depends(number_of)]) -> None: ...

        with pytest.raises(StartupError, match="open_session"):
            refuse_lasting_sessions()

    @pytest.mark.parametrize("response_class", [EventSourceResponse, StreamingResponse])
    def test_of_a_generator_is_refused(self, application: FastAPI, response_class: Any) -> None:
        @application.get("/rows", response_class=response_class)
        async def send_rows(session: SessionDep) -> AsyncIterator[str]:
            yield "row"

        @application.get("/sync-rows", response_class=response_class)
        def send_rows_too(session: SessionDep) -> Iterator[str]:
            yield "row"

        with pytest.raises(StartupError, match=r"`send_rows`.*stream_rows"):
            refuse_lasting_sessions()

    def test_of_request_scope_is_refused(self, application: FastAPI) -> None:
        @application.get("/rows")
        async def read(session: Annotated[AsyncSession, Depends(get_session)]) -> None: ...

        with pytest.raises(StartupError, match=r"`read`.*SessionDep"):
            refuse_lasting_sessions()

    def test_of_an_endpoint_is_right(self, application: FastAPI) -> None:
        @application.get("/rows")
        async def read(session: SessionDep, other: ReadSessionDep) -> None: ...

        refuse_lasting_sessions()
