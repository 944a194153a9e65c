"""Every error has one shape, tells the caller what to do, and none tells what happened inside."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import date
from typing import Annotated, Any, ClassVar

import asyncpg  # type: ignore[import-untyped]
import httpx
import kombu.exceptions
import pytest
import redis
from fastapi import APIRouter, FastAPI, HTTPException, Query, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from sqlalchemy import Integer, TypeDecorator, create_engine, literal, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, PendingRollbackError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.core.config import BASE_DIR, settings
from kit.causes import first_line, is_conflict, is_outage, is_unstorable
from kit.database import ReadOnlyViolationError
from kit.errors import Problem, UnhandledErrorMiddleware, problem_for, setup_errors
from kit.http._middleware import middleware_stack
from kit.redis._pool import RedisGivenUpError, RedisPoolBusyError
from kit.redis._transport import PayloadTooLargeError

MEMBERS = {"type", "title", "status", "detail", "instance", "request_id"}


class Order(BaseModel):
    password: str = Field(max_length=3)
    amounts: dict[str, int] = {}


@pytest.fixture(scope="module")
def application() -> FastAPI:  # noqa: C901 (one function for each kind of error)
    """An application whose routes fail in every way, behind the service's middleware."""
    app = FastAPI(middleware=middleware_stack())
    setup_errors(app)
    app.mount("/static", StaticFiles(directory=BASE_DIR / "static"), name="static")

    @app.get("/api/shelf/{number:int}")
    @app.put("/api/shelf/{number:int}")
    @app.delete("/api/shelf/{number}/books")
    async def keep_on_shelf(number: int) -> None: ...

    inner = FastAPI()
    setup_errors(inner)
    shelves = APIRouter(prefix="/shelf")
    shelves.get("/{number:int}")(keep_on_shelf)
    inner.include_router(shelves)
    inner.put("/shelf/{number:int}")(keep_on_shelf)
    app.mount("/inner", inner)

    @app.get("/api/http/{status}")
    async def raise_http(status: int) -> None:
        raise HTTPException(status, "because", headers={"X-Reason": "test"})

    @app.get("/api/http-with-data")
    async def raise_http_with_data() -> None:
        raise HTTPException(418, {"code": "OUT_OF_TEA", "at": date(2026, 1, 2)})

    @app.get("/api/misplaced")
    async def write_while_reading() -> None:
        raise ReadOnlyViolationError("INSERT INTO secret")

    @app.get("/api/problem")
    async def raise_problem() -> None:
        raise Problem(402, "Top up.", title="Empty", type="/problems/empty", balance=0)

    @app.post("/api/orders")
    async def validate(order: Order, limit: Annotated[int, Query(le=10)] = 10) -> Order:
        return order

    @app.get("/api/bug")
    async def fail() -> None:
        raise KeyError("secret-of-the-house")

    @app.get("/api/bug-in-thread")
    def fail_in_thread() -> None:
        raise KeyError("secret-of-the-house")

    @app.get("/api/outage")
    async def lose_server() -> None:
        raise redis.ConnectionError("10.1.2.3 refused")

    @app.get("/api/half-an-answer")
    async def fail_midway() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"half"
            raise KeyError("secret-of-the-house")

        return StreamingResponse(chunks())

    return app


@pytest.fixture
async def http(application: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    # Whatever leaves the application would fail the test: nothing is left for the server to log.
    transport = httpx.ASGITransport(app=application, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


class TestShape:
    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/nowhere", 404),
            ("DELETE", "/api/bug", 405),
            ("GET", "/api/http/418", 418),
            ("GET", "/api/http/499", 499),
            ("GET", "/api/http/x", 422),
            ("GET", "/api/outage", 503),
            ("GET", "/api/bug", 500),
            ("GET", "/api/bug-in-thread", 500),
        ],
    )
    async def test_is_a_problem_document(
        self, http: httpx.AsyncClient, method: str, path: str, status: int
    ) -> None:
        answer = await http.request(method, path, headers={"X-Request-ID": "abc.1"})
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        document = answer.json()
        assert document.keys() >= MEMBERS
        assert document["status"] == status
        assert document["instance"] == path
        assert document["request_id"] == answer.headers["X-Request-ID"] == "abc.1"

    async def test_instance_is_a_uri_also_for_odd_paths(self, http: httpx.AsyncClient) -> None:
        assert (await http.get("/a b/é")).json()["instance"] == "/a%20b/%C3%A9"

    async def test_keeps_headers(self, http: httpx.AsyncClient) -> None:
        assert (await http.get("/api/http/418")).headers["X-Reason"] == "test"

    @pytest.mark.parametrize("path", ["/api/shelf/1", "/inner/shelf/1"])
    async def test_allow_names_the_methods_of_all_routes_at_the_path(
        self, http: httpx.AsyncClient, path: str
    ) -> None:
        answer = await http.request("TRACE", path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, PUT")

    async def test_a_status_without_body_has_none(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/api/http/304")
        assert (answer.status_code, answer.content) == (304, b"")

    async def test_problem_carries_its_own_members(self, http: httpx.AsyncClient) -> None:
        document = (await http.get("/api/problem")).json()
        assert document["title"] == "Empty"
        assert document["type"] == "/problems/empty"
        assert document["balance"] == 0

    async def test_a_detail_of_any_json_is_data(self, http: httpx.AsyncClient) -> None:
        document = (await http.get("/api/http-with-data")).json()
        assert document["detail"] == "I'm a Teapot"
        assert document["data"] == {"code": "OUT_OF_TEA", "at": "2026-01-02"}

    async def test_cors_headers_stand_on_errors_too(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/api/bug", headers={"Origin": "http://localhost:5173"})
        assert answer.headers["access-control-allow-origin"] == "http://localhost:5173"


class TestValidation:
    async def test_names_every_mistake_and_where_it_is(self, http: httpx.AsyncClient) -> None:
        answer = await http.post(
            "/api/orders?limit=11", json={"password": "hunter2", "amounts": {"a/b": "many"}}
        )
        errors = {(e["in"], e["pointer"], e["code"]) for e in answer.json()["errors"]}
        assert errors == {
            ("query", "/limit", "less_than_equal"),
            ("body", "/password", "string_too_long"),
            ("body", "/amounts/a~1b", "int_parsing"),
        }

    async def test_does_not_repeat_what_was_sent(self, http: httpx.AsyncClient) -> None:
        answer = await http.post("/api/orders", json={"password": "hunter2"})
        assert "hunter2" not in answer.text

    async def test_broken_json(self, http: httpx.AsyncClient) -> None:
        answer = await http.post(
            "/api/orders", content="{", headers={"content-type": "application/json"}
        )
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["in"] == "body"


class TestUnhandled:
    async def test_tells_nothing(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/api/bug")
        assert "secret" not in answer.text
        assert "KeyError" not in answer.text

    async def test_is_logged_once_with_its_stack(
        self, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        await http.get("/api/bug")
        records = [record for record in caplog.records if record.exc_info]
        assert [record.name for record in records] == ["kit.errors"]

    async def test_a_write_with_the_session_that_reads_has_its_remedy(
        self, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        answer = await http.get("/api/misplaced")
        assert answer.status_code == 501
        assert "Use `SessionDep`" in answer.json()["detail"]
        assert "secret" not in answer.text
        assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR"]

    async def test_a_task_that_is_too_large(self) -> None:
        assert problem_for(PayloadTooLargeError("70000 bytes")).status_code == 413

    async def test_outage_is_one_line_and_says_when_to_come_back(
        self, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        answer = await http.get("/api/outage")
        assert int(answer.headers["Retry-After"]) > 0
        assert "10.1.2.3" not in answer.text
        assert not [record for record in caplog.records if record.exc_info]

    async def test_an_answer_under_way_is_broken_off(self, http: httpx.AsyncClient) -> None:
        with pytest.raises(KeyError):
            await http.get("/api/half-an-answer")


class TestOwnMiddleware:
    """Middleware and handlers that an owner adds as FastAPI's documentation has it."""

    @pytest.fixture
    def app(self) -> FastAPI:
        app = FastAPI(middleware=middleware_stack())
        setup_errors(app)

        @app.middleware("http")
        async def fail(request: Request, call_next: Callable[[Request], Any]) -> Response:
            if request.url.path == "/api/bug":
                raise KeyError("secret-of-the-house")
            if request.url.path == "/api/busy":
                raise HTTPException(429, "Slower, please.")
            return Response("own")

        return app

    async def call(self, app: FastAPI, path: str, **headers: str) -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path, headers=headers)

    @pytest.mark.parametrize(
        ("path", "status"), [("/api/ok", 200), ("/api/bug", 500), ("/api/busy", 429)]
    )
    async def test_stands_inside_of_the_kits(self, app: FastAPI, path: str, status: int) -> None:
        answer = await self.call(app, path, origin="http://localhost:5173")
        assert answer.status_code == status
        assert answer.headers["X-Request-ID"]
        assert answer.headers["access-control-allow-origin"] == "http://localhost:5173"
        if status != 200:
            assert answer.json()["status"] == status

    async def test_replaces_the_kits_of_its_class(self, app: FastAPI) -> None:
        app.add_middleware(
            CORSMiddleware, allow_origins=["https://shop.localhost"], allow_credentials=True
        )
        answer = await self.call(app, "/api/bug", origin="https://shop.localhost")
        assert answer.status_code == 500
        assert answer.headers["access-control-allow-origin"] == "https://shop.localhost"
        other = await self.call(app, "/api/ok", origin="http://localhost:5173")
        assert "access-control-allow-origin" not in other.headers

    @pytest.mark.parametrize("key", [Exception, 500])
    async def test_a_handler_for_all_errors_answers_and_the_log_has_the_error(
        self, app: FastAPI, key: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        app.add_exception_handler(key, lambda *_: Response("sorry", 500))
        answer = await self.call(app, "/api/bug")
        assert (answer.status_code, answer.text) == (500, "sorry")
        assert answer.headers["X-Request-ID"]
        assert [record.exc_info for record in caplog.records if record.exc_info]


class TestBrowser:
    async def test_sees_a_page_outside_of_the_api(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/nowhere", headers={"Accept": "text/html,*/*"})
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/html")
        assert answer.headers["X-Request-ID"] in answer.text

    async def test_sees_a_problem_document_in_the_api(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/api/nowhere", headers={"Accept": "text/html,*/*"})
        assert answer.headers["content-type"] == "application/problem+json"


class TestCausesOutsideOfTheDatabase:
    @pytest.mark.parametrize(
        "error",
        [
            PoolTimeoutError(),
            ConnectionRefusedError(),
            ConnectionResetError(),
            TimeoutError(),
            socket.gaierror(),
            redis.ConnectionError(),
            redis.TimeoutError(),
            redis.exceptions.OutOfMemoryError(),
            redis.exceptions.NoPermissionError(),
            RedisPoolBusyError(),
            RedisGivenUpError(),
            kombu.exceptions.OperationalError(),
            asyncpg.exceptions.ConnectionDoesNotExistError(),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_outage(self, error: Exception) -> None:
        problem = problem_for(error)
        assert problem.status_code == 503
        assert problem.headers is not None
        assert problem.headers.keys() == {"Retry-After"}

    def test_outage_that_was_wrapped(self) -> None:
        error = RuntimeError("retry limit exceeded")
        assert not is_outage(error)
        error.__cause__ = ConnectionRefusedError()
        assert is_outage(error)

    @pytest.mark.parametrize(
        "error",
        [FileNotFoundError(), PermissionError(), redis.ResponseError("WRONGTYPE"), ValueError()],
        ids=lambda error: type(error).__name__,
    )
    def test_mistake(self, error: Exception) -> None:
        assert problem_for(error).status_code == 500


class TestCausesInTheDatabase:
    """Real errors of both drivers, since each names them in its own way."""

    CONFLICTS: ClassVar = {
        "parent_pkey": "INSERT INTO parent VALUES (1)",
        "child_id_fkey": "INSERT INTO child VALUES (7, 1)",
        "heir_id_fkey": "INSERT INTO heir VALUES (1); DELETE FROM parent",
    }
    RULES: ClassVar = {
        "not null": ("INSERT INTO child VALUES (NULL, 1)", "id"),
        "check": ("INSERT INTO child VALUES (1, -1)", "child_n_check"),
    }
    MISTAKES: ClassVar = {
        "syntax": "SELEC 1",
        "no such table": "SELECT * FROM nowhere",
        "division": "SELECT 1/0",
    }
    UNSTORABLE: ClassVar = {
        "number": "INSERT INTO parent VALUES (99999999999)",
        "text": "INSERT INTO word VALUES ('abcd')",
        "another type": "SELECT CAST('x' AS uuid)",
        "date": "SELECT CAST('x' AS date)",
    }
    OUTAGES: ClassVar = {
        "statement timeout": "SET LOCAL statement_timeout = 1; SELECT pg_sleep(5)",
        "terminated": "SELECT pg_terminate_backend(pg_backend_pid())",
        "full pooler": "DO $$ BEGIN RAISE EXCEPTION 'MaxClients' USING ERRCODE = 'XX000';END $$",
        "read-only database": "SET TRANSACTION READ ONLY; CREATE TABLE never (id int)",
        "serialization": "DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001';END $$",
    }
    TABLES = (
        "CREATE TEMPORARY TABLE parent (id int PRIMARY KEY)",
        "INSERT INTO parent VALUES (1)",
        "CREATE TEMPORARY TABLE child (id int NOT NULL REFERENCES parent, n int CHECK (n > 0))",
        "CREATE TEMPORARY TABLE heir (id int REFERENCES parent ON DELETE RESTRICT)",
        "CREATE TEMPORARY TABLE word (word varchar(3))",
    )

    @pytest.fixture(params=["asyncpg", "psycopg2"])
    def driver(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    async def error_of(self, driver: str, statements: str) -> Exception:
        with pytest.raises(DBAPIError) as caught:
            await self._run(driver, statements)
        return caught.value

    async def _run(self, driver: str, statements: str) -> None:
        if driver == "asyncpg":
            await self._run_async(statements)
        else:
            self._run_sync(statements)

    async def _run_async(self, statements: str) -> None:
        engine = create_async_engine(
            settings.DATABASE_URL, connect_args=settings.database_connect_args
        )
        try:
            async with engine.connect() as connection:
                for statement in (*self.TABLES, *statements.split("; ")):
                    await connection.execute(text(statement))
        finally:
            await engine.dispose()

    def _run_sync(self, statements: str) -> None:
        engine = create_engine(settings.SYNC_DATABASE_URL, connect_args=settings.sync_connect_args)
        try:
            with engine.connect() as connection:
                for statement in (*self.TABLES, *statements.split("; ")):
                    connection.execute(text(statement))
        finally:
            engine.dispose()

    @pytest.mark.parametrize("constraint", CONFLICTS)
    async def test_conflict(self, test_database: str, driver: str, constraint: str) -> None:
        error = await self.error_of(driver, self.CONFLICTS[constraint])
        assert isinstance(error, IntegrityError)
        problem = problem_for(error)
        assert problem.status_code == 409
        assert problem.members == {"constraint": constraint}

    async def test_a_trigger_s_rule_may_have_no_name(self, test_database: str, driver: str) -> None:
        raising = "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '23514';END $$"
        problem = problem_for(await self.error_of(driver, raising))
        assert (problem.status_code, problem.detail) == (
            422,
            "A rule of the database refuses this.",
        )

    async def test_a_conflicts_line_in_the_log_shows_no_row(
        self, test_database: str, driver: str
    ) -> None:
        error = await self.error_of(driver, "INSERT INTO parent VALUES (1)")
        assert "INSERT" in str(error)
        assert "INSERT" not in first_line(error)
        assert "(id)=(1)" not in first_line(error)
        assert "parent_pkey" in first_line(error)

    async def test_a_conflict_names_its_constraint(self, test_database: str, driver: str) -> None:
        problem = problem_for(await self.error_of(driver, "INSERT INTO parent VALUES (1)"))
        assert problem.members == {"constraint": "parent_pkey"}

    @pytest.mark.parametrize(("statements", "name"), RULES.values(), ids=RULES)
    async def test_a_broken_rule_is_named_without_the_value(
        self, test_database: str, driver: str, statements: str, name: str
    ) -> None:
        error = await self.error_of(driver, statements)
        problem = problem_for(error)
        assert problem.status_code == 422
        assert problem.members == {"constraint": name}
        assert name in problem.detail
        assert "-1" not in problem.detail
        assert "-1" not in first_line(error)

    async def test_a_lock_that_is_not_had_in_time(self, test_database: str, driver: str) -> None:
        async with _locked_table():
            error = await self.error_of(driver, "SET LOCAL lock_timeout = 1; TABLE locked")
        assert problem_for(error).status_code == 503

    @pytest.mark.parametrize("statements", MISTAKES.values(), ids=MISTAKES)
    async def test_mistake(self, test_database: str, driver: str, statements: str) -> None:
        error = await self.error_of(driver, statements)
        assert problem_for(error).status_code == 500

    @pytest.mark.parametrize("statements", UNSTORABLE.values(), ids=UNSTORABLE)
    async def test_unstorable(self, test_database: str, driver: str, statements: str) -> None:
        error = await self.error_of(driver, statements)
        assert problem_for(error).status_code == 422

    @pytest.mark.parametrize("statements", OUTAGES.values(), ids=OUTAGES)
    async def test_outage(self, test_database: str, driver: str, statements: str) -> None:
        error = await self.error_of(driver, statements)
        assert problem_for(error).status_code == 503

    def test_a_connection_that_was_lost_in_a_savepoint(self, test_database: str) -> None:
        """As that of a message's handler, whose error stops no other handler."""
        engine = create_engine(settings.SYNC_DATABASE_URL, connect_args=settings.sync_connect_args)
        with engine.connect() as connection:
            connection.begin()
            with pytest.raises(DBAPIError), connection.begin_nested():
                connection.execute(text(self.OUTAGES["terminated"]))
            with pytest.raises(PendingRollbackError) as caught:
                connection.execute(text("SELECT 1"))
        engine.dispose()
        assert problem_for(caught.value).status_code == 503

    async def test_a_statement_without_an_answer_has_words_for_the_log(
        self, test_database: str
    ) -> None:
        patience = settings.database_connect_args | {"command_timeout": 0.1}
        engine = create_async_engine(settings.DATABASE_URL, connect_args=patience)
        async with engine.connect() as connection:
            with pytest.raises(TimeoutError) as caught:
                await connection.execute(text("SELECT pg_sleep(5)"))
        await engine.dispose()
        assert first_line(caught.value) == "no answer in time"

    async def test_parameter_that_the_driver_refuses(self, test_engine: AsyncEngine) -> None:
        async with test_engine.connect() as connection:
            with pytest.raises(DBAPIError) as caught:
                await connection.execute(text("SELECT CAST(:n AS int)"), {"n": 99_999_999_999})
        assert is_unstorable(caught.value)
        assert not is_outage(caught.value)
        assert not is_conflict(caught.value)

    async def test_value_that_the_column_s_type_refuses(self, test_engine: AsyncEngine) -> None:
        class Month(TypeDecorator[int]):
            """As SQLModel's type of moments, which refuses one without a zone."""

            impl = Integer
            cache_ok = True

            def process_bind_param(self, value: int | None, dialect: object) -> int | None:
                return date(2026, value, 1).month if value else None

        async with test_engine.connect() as connection:
            with pytest.raises(StatementError) as caught:
                await connection.execute(select(literal(13, Month)))
        assert problem_for(caught.value).status_code == 422

    async def test_no_free_connection(self, test_database: str, driver: str) -> None:
        options: dict[str, Any] = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.01}
        with pytest.raises(PoolTimeoutError) as caught:
            await _connect_twice(driver, options)
        assert problem_for(caught.value).status_code == 503

    async def test_no_server(self, driver: str) -> None:
        port = _free_port()
        url = f"postgresql+{driver}://user:password@127.0.0.1:{port}/database"
        with pytest.raises((OSError, DBAPIError)) as caught:
            await _connect(url)
        assert problem_for(caught.value).status_code == 503

    @pytest.mark.parametrize("code", ["XX000", "53300", "57P03"])
    async def test_server_or_pooler_that_refuses(self, driver: str, code: str) -> None:
        """A pooler or PostgreSQL without a connection left, and a PostgreSQL that starts."""
        with _refusing_server(code) as port:
            url = f"postgresql+{driver}://user:password@127.0.0.1:{port}/database"
            with pytest.raises(DBAPIError) as caught:
                await _connect(url)
        assert problem_for(caught.value).status_code == 503


@contextmanager
def _refusing_server(code: str) -> Iterator[int]:
    """A port that answers each login with an error, as the protocol of PostgreSQL has it."""
    fields = b"SFATAL\0VFATAL\0C%b\0Mnot now\0\0" % code.encode()
    answers = {True: b"N", False: b"E" + (len(fields) + 4).to_bytes(4, "big") + fields}
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            with suppress(OSError):
                while True:
                    with listener.accept()[0] as client:
                        while request := client.recv(1000):
                            wants_tls = request[4:8] == (80877103).to_bytes(4, "big")
                            client.sendall(answers[wants_tls])
                            if not wants_tls:
                                break

        thread = threading.Thread(target=refuse)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@asynccontextmanager
async def _locked_table() -> AsyncIterator[None]:
    engine = create_async_engine(settings.DATABASE_URL, connect_args=settings.database_connect_args)
    async with engine.connect() as connection:
        await connection.execute(text("CREATE TABLE locked (id int)"))
        await connection.commit()
        try:
            await connection.execute(text("LOCK TABLE locked"))
            yield
        finally:
            await connection.rollback()
            await connection.execute(text("DROP TABLE locked"))
            await connection.commit()
    await engine.dispose()


async def _connect_twice(driver: str, options: dict[str, Any]) -> None:
    if driver == "asyncpg":
        arguments = settings.database_connect_args
        engine = create_async_engine(settings.DATABASE_URL, connect_args=arguments, **options)
        try:
            async with engine.connect(), engine.connect():
                pass
        finally:
            await engine.dispose()
    else:
        arguments = settings.sync_connect_args
        sync_engine = create_engine(settings.SYNC_DATABASE_URL, connect_args=arguments, **options)
        try:
            with sync_engine.connect(), sync_engine.connect():
                pass
        finally:
            sync_engine.dispose()


async def _connect(url: str) -> None:
    if "asyncpg" in url:
        async with create_async_engine(url).connect():
            pass
    else:
        create_engine(url).connect()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("reason", ["Task cancelled, timeout graceful shutdown exceeded", "other"])
async def test_what_the_server_cuts_off_at_its_end_is_503(
    application: FastAPI, reason: str
) -> None:
    """Any other cancellation is not ours to answer."""
    is_under_way = asyncio.Event()
    sent: list[Any] = []

    async def wait(_scope: object, _receive: object, _send: object) -> None:
        is_under_way.set()
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "app": application, "headers": [], "path": "/api/x", "method": "GET"}
    middleware = UnhandledErrorMiddleware(wait)
    request = asyncio.create_task(middleware(scope, wait, send))  # type: ignore[arg-type]
    await is_under_way.wait()
    request.cancel(reason)
    await asyncio.wait([request])
    assert [each["status"] for each in sent[:1]] == ([503] if "shutdown" in reason else [])
    assert request.cancelled() == (not sent)
