"""Security headers come with every answer; hosts are checked; a proxy that is not named is told."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from itertools import permutations

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import PlainTextResponse

from app.core.config import StartupError, settings
from kit.doctor import CHECKS
from kit.errors import setup_errors
from kit.http import _middleware as middleware
from kit.http import health_router
from kit.queue import UNNAMED_PROXY, read_redis_status
from kit.queue._tasks import UNNAMED_PROXY_KEY
from kit.redis import redis_client
from kit.settings import Settings

NAMES = (
    *("Content-Security-Policy", "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy"),
    "Cross-Origin-Opener-Policy",
)
Served = Callable[..., httpx.AsyncClient]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    """Serves a small application with these settings, to a client at an address."""

    def serve(
        client: str = "127.0.0.1", host: str = "test", **changes: object
    ) -> httpx.AsyncClient:
        monkeypatch.setattr(middleware, "settings", settings.model_copy(update=changes))
        made = FastAPI(middleware=middleware.middleware_stack())
        setup_errors(made)
        made.include_router(health_router)
        made.add_route("/page", lambda _: PlainTextResponse("page"), methods=["GET", "POST"])
        made.add_route(
            "/own", lambda _: PlainTextResponse("", headers={"Content-Security-Policy": "own"})
        )
        transport = httpx.ASGITransport(app=made, client=(client, 50000))
        return httpx.AsyncClient(transport=transport, base_url=f"http://{host}")

    return serve


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/scalar", 200),
        ("/scalar/scalar.js", 200),
        ("/static/favicon.svg", 200),
        ("/static/nowhere.css", 404),
        ("/nowhere", 404),
        ("/api/tasks/no-id", 422),
        ("/health/live", 200),
        ("/admin/", 302),
        ("/admin/login", 200),
        ("/admin/nowhere", 404),
        ("/admin/statics/css/main.css", 200),
        ("/admin/%00/list", 400),
    ],
)
async def test_every_answer_has_them(client: httpx.AsyncClient, path: str, status: int) -> None:
    answer = await client.get(path)
    assert answer.status_code == status
    assert all(name in answer.headers for name in NAMES), answer.headers
    assert answer.headers.get_list("Content-Security-Policy") == [
        settings.API_CONTENT_SECURITY_POLICY
    ]
    if "ETag" in answer.headers and "/static" in path:
        kept = await client.get(path, headers={"If-None-Match": answer.headers["ETag"]})
        assert kept.status_code == 304
        assert all(name in kept.headers for name in NAMES)


async def test_preflights_and_failures_have_them(client: httpx.AsyncClient) -> None:
    headers = {"Origin": "http://localhost:5173", "Access-Control-Request-Method": "PUT"}
    answer = await client.options("/api/tasks/ping", headers=headers)
    assert answer.status_code == 200
    assert "nosniff" in answer.headers["X-Content-Type-Options"]


@pytest.mark.parametrize(("environment", "sent"), [("local", False), ("production", True)])
async def test_tls_is_asked_for_outside_local(
    served: Served, environment: str, *, sent: bool
) -> None:
    async with served(ENVIRONMENT=environment) as http:
        assert ("Strict-Transport-Security" in (await http.get("/page")).headers) is sent


async def test_an_answer_keeps_its_own_policy(served: Served) -> None:
    async with served() as http:
        assert (await http.get("/own")).headers.get_list("Content-Security-Policy") == ["own"]


@pytest.mark.parametrize(
    ("environment", "listed", "host", "status"),
    [
        ("production", ["api.example.com"], "api.example.com", 200),
        ("production", ["api.example.com"], "API.example.com.:8443", 200),
        ("production", ["api.example.com"], "evil.example", 400),
        ("production", ["api.example.com"], "api.example.com.evil.example", 400),
        ("production", ["api.example.com"], "10.0.0.7", 400),
        ("production", ["api.example.com"], "a@api.example.com]", 400),
        ("production", ["api.example.com"], "", 400),
        ("production", ["*.example.com"], "api.example.com", 200),
        ("production", ["*.example.com"], "example.com", 400),
        ("production", ["*"], "any.example", 200),
        ("production", [], "any.example", 200),
        ("local", [], "localhost:8000", 200),
        ("local", [], "[::1]:8000", 200),
        ("local", [], "192.168.1.7:8000", 200),
        ("local", [], "shop.localhost", 200),
        ("local", [], "host.docker.internal:8000", 200),
        ("local", [], "rebound.evil.example", 400),
        ("local", ["api.example.com"], "localhost", 200),
        ("local", ["api.example.com"], "x" * 300, 400),
    ],
)
async def test_hosts(
    served: Served, environment: str, listed: list[str], host: str, status: int
) -> None:
    async with served(ENVIRONMENT=environment, ALLOWED_HOSTS=listed) as http:
        answer = await http.get("/page", headers={"Host": host, "Accept": "text/html"})
        probe = await http.get("/health/live", headers={"Host": host})
    assert (answer.status_code, probe.status_code) == (status, 200)
    if status == 400:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert "ALLOWED_HOSTS" in answer.json()["detail"]
        assert "nosniff" in answer.headers["X-Content-Type-Options"]


async def test_two_hosts_are_refused(served: Served) -> None:
    """Otherwise one would be checked, and a redirection made of the other."""
    async with served(ENVIRONMENT="production", ALLOWED_HOSTS=["api.example.com"]) as http:
        for hosts in permutations(("api.example.com", "evil.example")):
            answer = await http.get("/page", headers=[("Host", host) for host in hosts])
            assert answer.status_code == 400


@pytest.mark.parametrize("wrong", ["https://api.example.com", "api.example.com:443", "a b", "/"])
def test_a_host_that_is_no_name_is_refused(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", wrong)
    with pytest.raises(StartupError, match="ALLOWED_HOSTS.*without https:// and port"):
        Settings.load()


@pytest.mark.parametrize("charset", ["undefined", "utf-7", "unicode_escape", "idna", "x'\"", ""])
async def test_a_form_in_an_odd_charset_is_refused(served: Served, charset: str) -> None:
    body = b'--B\r\nContent-Disposition: form-data; name="x"\r\n\r\n+2AA-\r\n--B--\r\n'
    async with served() as http:
        for name in ("charset", "charset*", " CHARSET "):
            kind = f"multipart/form-data; boundary=B; {name}={charset}"
            answer = await http.post("/page", content=body, headers={"Content-Type": kind})
            assert answer.status_code == 415, kind
        for kind in ('multipart/form-data; boundary=B; charset="UTF-8"', "multipart/form-data"):
            answer = await http.post("/page", content=body, headers={"Content-Type": kind})
            assert answer.status_code == 200, kind


class TestAProxyThatIsNotNamed:
    @pytest.fixture
    async def _clean(self) -> AsyncIterator[None]:
        yield
        redis_client().delete(UNNAMED_PROXY_KEY)

    @pytest.mark.usefixtures("_clean")
    async def test_is_told_once_in_the_log_and_by_doctor(
        self, served: Served, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            async with served("10.0.0.7") as http:
                for _ in range(3):
                    await http.get("/page", headers={"X-Forwarded-For": "203.0.113.9"})
        lines = [each.getMessage() for each in caplog.records if UNNAMED_PROXY in each.getMessage()]
        assert lines == [f"10.0.0.7 {UNNAMED_PROXY}"]
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(tasks, timeout=10) if tasks else None
        status = read_redis_status()
        assert status.unnamed_proxy == "10.0.0.7"
        found = list(CHECKS["unnamed-proxy"].find(status))
        assert found[0].remedy.startswith("If it is your proxy")

    @pytest.mark.parametrize(
        "headers", [{}, {"X-Forwarded-For": "198.51.100.1, 127.0.0.1"}], ids=["none", "named"]
    )
    async def test_nothing_is_told_without_one(
        self, served: Served, caplog: pytest.LogCaptureFixture, headers: dict[str, str]
    ) -> None:
        with caplog.at_level(logging.WARNING):
            async with served("127.0.0.1") as http:
                await http.get("/page", headers=headers)
        assert UNNAMED_PROXY not in caplog.text
