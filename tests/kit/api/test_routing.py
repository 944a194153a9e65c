"""Routes beside the API, what an extension may leave out, and how a request finds its route."""

import asyncio
import logging
import re
import sys
from itertools import count
from types import ModuleType
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Query, Request, WebSocket
from fastapi.dependencies import utils
from fastapi.exceptions import FastAPIError
from fastapi.requests import HTTPConnection
from fastapi.testclient import TestClient
from hypothesis import given, reject
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from app.core.config import settings
from kit.errors import Problem, setup_errors
from kit.extensions import ExtensionError, LoadedHook
from kit.http import (
    _routers,
    build_api_router,
    health_router,
    middleware_stack,
    setup_openapi,
)
from kit.http._routers import index_routes
from kit.listing import ListQuery
from kit.live import memory
from kit.models import AuditEntry
from kit.security import Principal, PrincipalProvider, serves
from kit.security import _principals as principals


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch) -> None:
    outside = settings.model_copy(update={"ENVIRONMENT": "production"})
    monkeypatch.setattr(principals, "settings", outside)


def module_with(name: str, *routers: str) -> ModuleType:
    """A module with these routers, each with a route and a WebSocket of the router's name."""
    module = ModuleType(name)
    for router_name in routers:
        router = APIRouter()

        @router.post(f"/{router_name}")
        async def _receive() -> None: ...

        @router.websocket(f"/{router_name}/socket")
        async def _talk(socket: WebSocket) -> None:
            await socket.accept()
            if await socket.receive_text() == "wrong":
                raise Problem(422, "Not a number: wrong.")
            await socket.close()

        setattr(module, router_name, router)
    return module


@pytest.fixture
def http(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """An API whose only modules have a public router beside the usual one."""
    own, extension = (
        module_with(name, "router", "public_router") for name in ("app.api.shop", "hotel")
    )
    monkeypatch.setattr(_routers, "import_modules", lambda *_, **__: [own])
    monkeypatch.setattr(_routers, "load_extensions", lambda _: [LoadedHook("hotel", extension)])
    application = FastAPI(middleware=middleware_stack())
    setup_errors(application)
    setup_openapi(application)
    application.include_router(build_api_router("app.api"))
    return TestClient(application)


@pytest.mark.usefixtures("production")
@pytest.mark.parametrize("prefix", ["/api", "/api/hotel"])
class TestPublicRouter:
    def test_other_routes_want_a_principal(self, http: TestClient, prefix: str) -> None:
        assert http.post(f"{prefix}/router").status_code == 401

    def test_its_routes_want_none(self, http: TestClient, prefix: str) -> None:
        assert http.post(f"{prefix}/public_router").status_code == 200

    def test_its_routes_are_limited_by_address(
        self, http: TestClient, prefix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(principals, "_rate_limit", principals.RateLimit(2, 1))
        answers = [http.post(f"{prefix}/public_router").status_code for _ in range(3)]
        assert answers == [200, 200, 429]

    def test_the_api_s_document_says_so(self, http: TestClient, prefix: str) -> None:
        paths = http.get("/openapi.json").json()["paths"]
        assert "security" in paths[f"{prefix}/router"]["post"]
        assert "security" not in paths[f"{prefix}/public_router"]["post"]

    def test_other_websockets_want_a_principal(self, http: TestClient, prefix: str) -> None:
        with (
            pytest.raises(WebSocketDenialResponse) as refused,
            http.websocket_connect(f"{prefix}/router/socket"),
        ):
            pass
        assert refused.value.status_code == 401
        assert refused.value.headers["content-type"] == "application/problem+json"
        assert "Bearer" in refused.value.headers["www-authenticate"]

    def test_its_websockets_want_none(self, http: TestClient, prefix: str) -> None:
        with http.websocket_connect(f"{prefix}/public_router/socket") as socket:
            socket.send_text("right")
            assert socket.receive() == {"type": "websocket.close", "code": 1000, "reason": ""}


class TestOpenWebSocket:
    def test_is_closed_by_a_problem_with_its_detail(self, http: TestClient) -> None:
        with http.websocket_connect("/api/router/socket") as socket:
            socket.send_text("wrong")
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_text()
        assert (closed.value.code, closed.value.reason) == (1008, "Not a number: wrong.")

    def test_before_it_is_open_an_outage_is_a_503(
        self, http: TestClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(_: object) -> None:
            raise ConnectionRefusedError("the database is away")

        providers: list[PrincipalProvider] = [fail]
        monkeypatch.setattr(principals, "_providers", providers)
        with (
            pytest.raises(WebSocketDenialResponse) as refused,
            http.websocket_connect("/api/router/socket"),
        ):
            pass
        assert refused.value.status_code == 503


@pytest.mark.parametrize("path", ["/health/live", "/", "/openapi.json", "/scalar"])
async def test_outside_local_other_routes_want_none(
    client: httpx.AsyncClient, production: None, path: str
) -> None:
    assert (await client.get(path)).status_code == 200


def test_an_extension_without_router_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("app.extensions.hotel.api")
    module.__file__ = "app/extensions/hotel/api.py"
    monkeypatch.setattr(_routers, "load_extensions", lambda _: [LoadedHook("hotel", module)])
    with pytest.raises(ExtensionError, match=r"hotel.*app/extensions/hotel/api\.py.*router"):
        build_api_router("app.api")


LITERALS = ("/a", "/b", "/a/b", "/a/b/c/d", "/a-", "//a", "/", "")
ENDS = ("", "", "/{}", "/{}/b", "/{:int}", "/x-{}", "{}", "/{:path}", "/")
PATHS = st.tuples(st.sampled_from(LITERALS), st.sampled_from(ENDS)).map("".join)
KINDS = ("api", "api", "api", "plain", "socket", "mount", "host")
METHODS = (("GET",), ("POST",), ("GET", "POST"))
ROUTES = st.tuples(st.sampled_from(KINDS), PATHS, st.sampled_from(METHODS))
PREFIXES = st.sampled_from(("", "/a", "/a/b", "/b", "/{}", "/a/{}", "/a-{}"))
LIMITS = st.sampled_from((None, None, None, 5))


def routers_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Routers with what they hold: two prefixes, the limit of a body, routes and routers."""
    return st.tuples(PREFIXES, PREFIXES, LIMITS, st.lists(inner, min_size=1, max_size=4))


TREES = st.recursive(ROUTES, routers_of, max_leaves=8)
REQUESTS = st.tuples(
    st.sampled_from(("GET", "POST", "HEAD", "websocket")),
    st.integers(0, 20),
    st.sampled_from(("1", "a", "b", "x/y", "", "\n")),
    st.sampled_from(("", "", "", "/", "//", "\n", "/\n", "/b")),
    st.sampled_from(("", "", "/a", "/r")),
    st.sampled_from((b"test", b"test", b"host")),
)


def build(trees: list[Any]) -> tuple[FastAPI, list[str]]:
    """An application with the routes and routers of a list of trees, and the routes' paths."""
    application, numbers, paths = FastAPI(), count(), list[str]()
    for tree in trees:
        _add(application.router, tree, "", numbers, paths)
    return application, paths


def _add(
    router: APIRouter, tree: Any, before: str, numbers: "count[int]", paths: list[str]
) -> None:
    name = f"n{next(numbers)}"

    async def note(connection: HTTPConnection) -> None:
        connection.state.notes = [*getattr(connection.state, "notes", []), name]

    if len(tree) == 4:
        prefix, own_prefix, limit, inner = tree
        prefix = prefix.replace("{}", f"{{{name}a}}")
        own_prefix = own_prefix.replace("{}", f"{{{name}b}}")
        child = APIRouter(prefix=own_prefix, dependencies=[Depends(note)], tags=[name])
        for each in inner:
            _add(child, each, before + prefix + own_prefix, numbers, paths)
        router.include_router(child, prefix=prefix, max_body_size=limit)
        return

    async def endpoint(request: Request) -> PlainTextResponse:
        notes, router = getattr(request.state, "notes", []), request.scope["router"]
        content, is_whole = await request.body(), router is request.app.router
        return PlainTextResponse(f"{name} {request.path_params} {notes} {content!r} {is_whole}")

    async def talk(socket: WebSocket) -> None:
        await socket.accept(f"{name} {socket.path_params} {getattr(socket.state, 'notes', [])}")

    kind, path, methods = tree
    path = path.replace("{", f"{{{name}")
    paths.append(before + path)
    if kind == "api":
        router.add_api_route(path, endpoint, methods=[*methods], name=name)
    elif kind == "plain":
        router.add_route(path, endpoint, methods=[*methods], name=name)
    elif kind == "socket":
        router.add_api_websocket_route(path, talk, name=name)
    elif kind == "mount":
        router.routes.append(Mount(path, app=PlainTextResponse(name), name=name))
    else:
        router.routes.append(Host("host", app=PlainTextResponse(name), name=name))


async def ask(application: FastAPI, paths: list[str], wanted: Any) -> list[Any]:
    """What the application answers to a request of this kind, near one of the paths."""
    method, number, value, end, root, host = wanted
    path = root + re.sub("{.*?}", value, paths[number % len(paths)]) + end
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        kind = "websocket.connect" if method == "websocket" else "http.request"
        return {"type": kind, "body": b"ten bytes!"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket" if method == "websocket" else "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": root,
        "query_string": b"",
        "scheme": "http",
        "subprotocols": [],
        "headers": [(b"host", host), (b"content-type", b"text/plain"), (b"content-length", b"10")],
        "server": ("test", 80),
    }
    await application(scope, receive, send)
    return sent


def calls_for(application: FastAPI, path: str) -> int:
    """How many functions a request calls: what it costs, the same on every machine."""
    request = ("GET", 0, "", "", "", b"localhost")
    asyncio.run(ask(application, [path], request))  # what is made once
    calls = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event.endswith("call")

    async def measure() -> None:
        sys.setprofile(note)
        await ask(application, [path], request)
        sys.setprofile(None)

    asyncio.run(measure())
    return calls


class TestRouteIndex:
    @pytest.mark.filterwarnings("ignore:Duplicate Operation ID")
    @hypothesis_settings(max_examples=150, deadline=None)
    @given(st.lists(TREES, min_size=1, max_size=6), st.lists(REQUESTS, min_size=20, max_size=30))
    def test_answers_what_fastapi_answers_without_it(
        self, trees: list[Any], requests: list[Any]
    ) -> None:
        try:
            plain, paths = build(trees)
            document = plain.openapi()
        except (AssertionError, ValueError, FastAPIError):
            reject()  # an empty path, or one without a slash
        indexed, _ = build(trees)
        index_routes(indexed.router)

        async def compare() -> None:
            for each in requests:
                assert await ask(indexed, paths, each) == await ask(plain, paths, each)

        asyncio.run(compare())
        assert indexed.openapi() == document

    def test_500_routes_cost_what_one_costs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        root = logging.getLogger()  # without what the start page remembers, in local alone
        handlers = [each for each in root.handlers if each is not memory]
        monkeypatch.setattr(root, "handlers", handlers)
        application = FastAPI(middleware=middleware_stack())
        setup_errors(application)
        application.include_router(health_router)
        api = APIRouter(prefix="/api")
        for extension in range(5):
            for resource in range(10):
                router, paths, numbers = APIRouter(prefix=f"/{resource}"), list[str](), count()
                for part in range(10):
                    _add(router, ("api", f"/{part}/{{}}", ("GET",)), "", numbers, paths)
                api.include_router(router, prefix=f"/extension{extension}")
        application.include_router(api)
        health, first, last, missing = (
            calls_for(application, path)
            for path in ("/health/live", "/api/extension0/0/0/x", "/api/extension4/9/0/x", "/x")
        )
        assert last == first
        # In processor time it is less than 1.2: it calls short ones, for a line in the log.
        assert missing <= 1.3 * health

    def test_routes_that_come_and_go_later_are_found_and_not(self) -> None:
        application, _ = build([("api", "/a/b", ("GET",))])
        index_routes(application.router)
        extra, _ = build([("/b", "", None, [("api", "/a/{}", ("GET",))])])
        request = ("GET", 0, "1", "", "", b"test")

        def status(path: str) -> int:
            return int(asyncio.run(ask(application, [path], request))[0]["status"])

        assert (status("/a/b"), status("/b/a/1")) == (200, 404)
        application.router.routes.append(extra.router.routes[-1])
        assert (status("/a/b"), status("/b/a/1")) == (200, 200)
        del application.router.routes[-2:]
        assert (status("/a/b"), status("/b/a/1")) == (404, 404)


class EntryQuery(ListQuery, model=AuditEntry):
    """A list of the audit trail."""


class TestIdleDependencies:
    """Of what all routes below `/api` have, a request solves what does something for its route."""

    @pytest.fixture
    def shop(self, monkeypatch: pytest.MonkeyPatch) -> TestClient:
        shop, pages = ModuleType("app.api.shop"), APIRouter(dependencies=[serves()])
        shop.router = router = APIRouter(dependencies=[serves(scope="shop")])  # type: ignore[attr-defined]

        @router.get("/one")
        async def _one() -> None: ...

        @router.get("/many")
        async def _many(query: Annotated[EntryQuery, Query()]) -> int:
            return query.limit

        @router.get("/mine")
        async def _mine(caller: Annotated[Principal, serves(scope="mine")]) -> str:
            return caller.kind

        @pages.get("/page")
        async def _page() -> None: ...

        monkeypatch.setattr(_routers, "import_modules", lambda *_, **__: [shop])
        monkeypatch.setattr(_routers, "load_extensions", lambda _: [])
        application = FastAPI(middleware=middleware_stack())
        setup_errors(application)
        setup_openapi(application)
        application.include_router(build_api_router("app.api"))
        application.include_router(pages)
        return TestClient(application)

    @pytest.mark.parametrize(
        ("path", "names"),
        [
            ("one", ["require_principal"]),
            ("many", ["require_principal", "refuse_repeated"]),
            ("mine", ["require_principal", "Serves", "require_principal"]),
        ],
    )
    def test_are_not_solved(
        self, shop: TestClient, path: str, names: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        solved: list[str] = []
        solve = utils.solve_dependencies

        async def note(**options: Any) -> Any:
            call = options["dependant"].call
            solved.append(getattr(call, "__name__", type(call).__name__))
            return await solve(**options)

        monkeypatch.setattr(utils, "solve_dependencies", note)  # those of dependencies alone
        assert shop.get(f"/api/{path}").status_code == 200
        assert solved == names

    def test_a_list_refuses_what_is_repeated(self, shop: TestClient) -> None:
        assert shop.get("/api/many?limit=1&limit=2").status_code == 422
        assert shop.get("/api/one?limit=1&limit=2").status_code == 200

    def test_are_in_the_document(self, shop: TestClient) -> None:
        shop.get("/api/one")  # after which routes are indexed
        paths = shop.get("/openapi.json").json()["paths"]
        assert "`shop`" in paths["/api/one"]["get"]["description"]
        assert "`mine`" in paths["/api/mine"]["get"]["description"]

    def test_what_asks_who_calls_is_none(self, shop: TestClient, production: None) -> None:
        for path in ("/page", "/api/one", "/api/mine"):
            assert shop.get(path).status_code == 401
