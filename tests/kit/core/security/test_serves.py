"""Whom a route serves: what it says, what its routers say, and what it does."""

from types import ModuleType
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from starlette.requests import Request
from starlette.responses import Response

from app.core.dependencies import PrincipalDep
from kit.admin import AdminDep
from kit.errors import setup_errors
from kit.http import _routers, build_api_router, middleware_stack, setup_openapi
from kit.lifespan import refuse_rows_of_others
from kit.places import service
from kit.security import (
    ANONYMOUS_USERS,
    PROGRAMS,
    USERS,
    Kind,
    Principal,
    require_principal,
    routes_and_callers,
    serves,
)
from kit.settings import StartupError
from kit.testing import GuardedRoute, change_settings, guarded_routes

NO_ONE = dict.fromkeys(
    ("no one", "program", "program with another scope", "user", "anonymous user"), False
)
PROGRAMS_ALONE = NO_ONE | {"program": True}
USERS_ALONE = NO_ONE | {"user": True}
EVERYONE = dict.fromkeys(NO_ONE, True)

read_write = serves(scope="shop:read", write_scope="shop:write")


async def endpoint() -> None:
    raise AssertionError("nobody is to get here")


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch) -> APIRouter:
    """The router of the service's one module of routes."""
    module = ModuleType("app.api.shop")
    module.__file__ = "app/api/shop.py"
    router, public_router = APIRouter(), APIRouter()
    vars(module).update(router=router, public_router=public_router)
    public_router.add_api_route("/public", endpoint)
    monkeypatch.setattr(_routers, "import_modules", lambda *_, **__: [module])
    monkeypatch.setattr(_routers, "load_extensions", lambda _: [])
    return router


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    change_settings(monkeypatch, ENVIRONMENT="production")
    application = FastAPI(middleware=middleware_stack())
    setup_errors(application)
    setup_openapi(application)
    monkeypatch.setattr(type(service), "application", application, raising=False)
    return application


def routes(application: FastAPI) -> dict[str, GuardedRoute]:
    application.include_router(build_api_router("app.api"))
    return {str(route): route for route in guarded_routes()}


def table(application: FastAPI, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, bool]]:
    """Whom each route serves, which is also what it says."""
    served = {}
    for name, route in routes(application).items():
        served[name] = route.serves(monkeypatch)
        assert served[name] == route.says(), name
    return served


def test_without_a_word_programs_are_served(
    application: FastAPI, router: APIRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    router.add_api_route("/orders/{number}", endpoint, methods=["DELETE"])
    router.add_api_websocket_route("/socket", endpoint)
    application.add_api_route("/beside", endpoint, dependencies=[Depends(require_principal)])
    served = table(application, monkeypatch)
    assert served["DELETE /api/orders/{number}"] == PROGRAMS_ALONE
    assert served["any /api/socket"] == PROGRAMS_ALONE
    assert served["GET /beside"] == PROGRAMS_ALONE
    assert served["GET /api/public"] == EVERYONE


def test_the_nearest_word_counts(
    application: FastAPI, router: APIRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def with_parameter(user: Annotated[Principal, serves(USERS)]) -> None: ...

    async def socket(socket: WebSocket, principal: PrincipalDep) -> None: ...

    inner = APIRouter(prefix="/inner")
    inner.add_api_route("/read", endpoint)
    inner.add_api_route("/all", endpoint, dependencies=[serves(PROGRAMS, ANONYMOUS_USERS)])
    inner.add_api_route("/users", with_parameter)
    inner.add_api_websocket_route("/socket", socket, dependencies=[serves(USERS)])
    outer = APIRouter(prefix="/outer", dependencies=[read_write])
    outer.include_router(inner)
    router.include_router(outer)
    served = table(application, monkeypatch)
    assert served["GET /api/outer/inner/read"] == PROGRAMS_ALONE
    assert served["GET /api/outer/inner/all"] == PROGRAMS_ALONE | {"anonymous user": True}
    assert served["GET /api/outer/inner/users"] == USERS_ALONE
    assert served["any /api/outer/inner/socket"] == USERS_ALONE


def test_a_scope_for_writing_is_that_of_all_but_get_and_head(
    application: FastAPI, router: APIRouter
) -> None:
    shop = APIRouter(prefix="/shop", dependencies=[read_write])
    shop.add_api_route("/a", endpoint, methods=["GET", "HEAD"])
    shop.add_api_route("/b", endpoint, methods=["GET", "POST"])
    shop.add_api_route("/c", endpoint, methods=["QUERY"])
    shop.add_api_websocket_route("/d", endpoint)
    router.include_router(shop)
    scopes = {
        route.route.path: route.policy.scope
        for route in routes(application).values()
        if route.policy and "/shop" in str(route)
    }
    assert scopes == {
        "/api/shop/a": "shop:read",
        "/api/shop/b": "shop:write",
        "/api/shop/c": "shop:write",
        "/api/shop/d": "shop:write",
    }


def test_what_is_included_twice_serves_each_time_whom_its_router_says(
    application: FastAPI, router: APIRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = APIRouter(prefix="/orders")
    orders.add_api_route("", endpoint)
    router.include_router(orders, prefix="/v1", dependencies=[serves(scope="orders:read")])
    router.include_router(orders, prefix="/v2", dependencies=[serves(USERS)])
    found = routes(application)
    for name in ("GET /api/v1/orders", "GET /api/v2/orders"):
        served = found[name].serves(monkeypatch)
        assert served == found[name].says() != NO_ONE
    assert found["GET /api/v1/orders"].says() != found["GET /api/v2/orders"].says()


def test_what_is_included_twice_for_different_callers_serves_no_one(
    application: FastAPI, router: APIRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where FastAPI enters the router, for its limit: the request's route is the same one then."""
    orders = APIRouter(prefix="/orders", max_body_size=1000)
    orders.add_api_route("", endpoint)
    router.include_router(orders, prefix="/v1", dependencies=[serves(scope="orders:read")])
    router.include_router(orders, prefix="/v2", dependencies=[serves(USERS)])
    found = routes(application)
    assert found["GET /api/v1/orders"].serves(monkeypatch) == NO_ONE
    assert found["GET /api/v2/orders"].serves(monkeypatch) == NO_ONE


def test_the_table_finds_what_no_dependency_reaches(
    application: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    application.mount("/api/old", FastAPI())
    application.add_api_route("/api/open", endpoint)
    for name in ("any /api/old", "GET /api/open"):
        route = {str(route): route for route in guarded_routes()}[name]
        assert route.says() == PROGRAMS_ALONE
        assert route.serves(monkeypatch) == EVERYONE


def test_a_log_in_of_the_admin_serves_administrators(
    application: FastAPI, router: APIRouter
) -> None:
    async def show(admin: AdminDep) -> None: ...

    application.add_api_route("/page", show)
    router.add_api_route("/both", show)
    said = {route.path: policy for route, policy in routes_and_callers(application)}
    assert str(said["/page"]) == "administrator"
    assert str(routes(application)["GET /api/both"].policy) == "programs with the scope `default`"


def test_a_kind_of_the_service_s_own(
    application: FastAPI, router: APIRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    router.add_api_route("/a", endpoint, dependencies=[serves(Kind("partner"))])
    assert (table(application, monkeypatch))["GET /api/a"] == NO_ONE


@pytest.mark.parametrize("add", ["mount", "route"])
def test_what_dependencies_do_not_reach_is_refused(
    application: FastAPI, router: APIRouter, add: str
) -> None:
    async def answer(_: Request) -> Response:
        return Response()

    if add == "mount":
        router.mount("/old", FastAPI())
    else:
        router.add_route("/old", answer)
    with pytest.raises(StartupError, match=r"app/api/shop\.py: make '/old' a route of FastAPI"):
        routes(application)


class TestOwnRows:
    def start(self, application: FastAPI, endpoint: Any, *, shared: bool = False) -> None:
        application.add_api_route("/a", endpoint, dependencies=[serves(USERS, shared=shared)])
        refuse_rows_of_others()

    def test_a_route_that_does_not_ask_who_calls_is_refused(self, application: FastAPI) -> None:
        with pytest.raises(
            StartupError, match=r"`endpoint` \(.*:\d+\) serves users .*PrincipalDep"
        ):
            self.start(application, endpoint)

    def test_one_that_says_so_is_not(self, application: FastAPI) -> None:
        self.start(application, endpoint, shared=True)

    def test_nor_one_that_asks(self, application: FastAPI) -> None:
        async def read(principal: PrincipalDep) -> None: ...

        self.start(application, read)

    def test_nor_one_whose_dependency_asks(self, application: FastAPI) -> None:
        async def customer(principal: PrincipalDep) -> str:
            return principal.id

        async def read(customer: Annotated[str, Depends(customer)]) -> None: ...

        self.start(application, read)


class TestDocument:
    def test_names_credentials_scopes_and_callers(
        self, application: FastAPI, router: APIRouter
    ) -> None:
        said = serves(PROGRAMS, USERS, ANONYMOUS_USERS, scope="shop:read")
        router.add_api_route("/a", endpoint, dependencies=[said], description="Reads.")
        routes(application)
        document = application.openapi()
        operation = document["paths"]["/api/a"]["get"]
        assert operation["security"] == [{"API token": ["shop:read"]}, {"Access token": []}]
        assert operation["description"] == (
            "Reads.\n\nServes programs with the scope `shop:read`, users, anonymous users."
        )
        assert {*document["components"]["securitySchemes"]} == {"API token", "Access token"}

    def test_a_public_route_needs_none(self, application: FastAPI, router: APIRouter) -> None:
        routes(application)
        operation = application.openapi()["paths"]["/api/public"]["get"]
        assert "security" not in operation
        assert operation["description"] == "Serves anyone."


@pytest.mark.parametrize(
    ("kinds", "scope", "message"),
    [((), "Orders read", "characters a-z"), ((USERS,), "orders:read", "add PROGRAMS")],
)
def test_what_cannot_be_meant_is_refused(kinds: tuple[Kind, ...], scope: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        serves(*kinds, scope=scope)
