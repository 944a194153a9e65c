"""The request id goes in and out; each request leaves one line that can be counted."""

import logging
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, FastAPI, Response

from kit.context import get_request_id
from kit.errors import setup_errors
from kit.http._middleware import middleware_stack


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI(middleware=middleware_stack())
    setup_errors(app)
    rooms = APIRouter()

    @rooms.get("/rooms/{room_id}")
    async def read_room(room_id: int) -> str:
        logging.getLogger("app.test").info("reading")
        return get_request_id()

    @rooms.get("/rooms-in-thread")
    def read_rooms() -> str:
        return get_request_id()

    @rooms.get("/named")
    async def read_named() -> Response:
        return Response(headers={"X-Request-Id": "another"})

    @rooms.post("/rooms")
    async def clean_room(tasks: BackgroundTasks) -> None:
        tasks.add_task(logging.getLogger("app.test").info, "after the answer")

    @app.get("/health/live")
    async def read_liveness() -> None:
        pass

    @app.get("/health/ready")
    async def read_readiness() -> None:
        raise ConnectionRefusedError

    mounted = FastAPI()

    @mounted.get("/reports/{name}")
    async def read_report(name: str) -> str:
        return name

    app.mount("/back-office", mounted)
    api = APIRouter(prefix="/api")
    api.include_router(rooms, prefix="/hotel")
    api.include_router(rooms, prefix="/limited", max_body_size=1000)
    app.include_router(api)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def access_lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "app.access"]


class TestRequestId:
    @pytest.mark.parametrize(
        "hostile",
        ["a b", "a\tb", "x" * 129, "", "-a", "ä", "a;b", '"a"', "{}", "a/b", "%0a"],
    )
    async def test_of_the_caller_is_replaced_unless_it_is_a_plain_word(
        self, http: httpx.AsyncClient, hostile: str
    ) -> None:
        answer = await http.get(
            "/api/hotel/rooms/1", headers={b"X-Request-ID": hostile.encode("latin-1")}
        )
        assert answer.headers["X-Request-ID"] != hostile
        assert len(answer.headers["X-Request-ID"]) == 32

    @pytest.mark.parametrize("path", ["/api/hotel/rooms/1", "/api/hotel/rooms-in-thread"])
    async def test_of_the_caller_reaches_the_endpoint_and_comes_back(
        self, http: httpx.AsyncClient, path: str
    ) -> None:
        sent = "01J9ZQ:web.1_a-b"
        answer = await http.get(path, headers={"x-request-id": sent})
        assert answer.json() == answer.headers["X-Request-ID"] == sent

    async def test_is_the_only_one_of_the_answer(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/api/hotel/named", headers={"x-request-id": "sent"})
        assert answer.headers.get_list("X-Request-ID") == ["sent"]

    async def test_is_new_for_each_request(self, http: httpx.AsyncClient) -> None:
        ids = {(await http.get("/api/hotel/rooms/1")).json() for _ in range(3)}
        assert len(ids) == 3

    async def test_ends_with_the_request(self, http: httpx.AsyncClient) -> None:
        await http.get("/api/hotel/rooms/1")
        assert get_request_id() == ""


class TestLine:
    @pytest.fixture(autouse=True)
    def everything(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)

    @pytest.mark.parametrize("name", ["hotel", "limited"])
    async def test_has_method_template_status_and_time(
        self, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, name: str
    ) -> None:
        await http.get(f"/api/{name}/rooms/7?token=secret")
        [line] = access_lines(caplog)
        assert line.__dict__["method"] == "GET"
        assert line.__dict__["path"] == f"/api/{name}/rooms/{{room_id}}"
        assert line.__dict__["status"] == 200
        assert line.__dict__["duration_ms"] >= 0
        assert "secret" not in line.getMessage()

    async def test_has_the_whole_template_in_a_mounted_application(
        self, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        await http.get("/back-office/reports/7")
        [line] = access_lines(caplog)
        assert line.__dict__["path"] == "/back-office/reports/{name}"

    async def test_has_the_path_as_sent_where_nothing_matched(
        self, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        await http.get("/no%0Awhere/é")
        [line] = access_lines(caplog)
        assert line.__dict__["path"] == "/no%0Awhere/%C3%A9"
        assert "\n" not in line.getMessage()

    async def test_comes_before_what_runs_after_the_answer(
        self, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        await http.post("/api/hotel/rooms")
        names = [r.name for r in caplog.records if r.name in ("app.access", "app.test")]
        assert names == ["app.access", "app.test"]

    async def test_of_a_probe_is_quiet_unless_it_failed(
        self, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        await http.get("/health/live")
        await http.get("/health/ready")
        levels = [line.levelno for line in access_lines(caplog)]
        assert levels == [logging.DEBUG, logging.WARNING]
