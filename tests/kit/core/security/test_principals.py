from collections.abc import AsyncIterator, Callable
from typing import Annotated, TypeVar

import httpx
import pytest
from fastapi import Depends, FastAPI, Request
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.config import settings
from kit.errors import setup_errors
from kit.security import (
    PROGRAMS,
    Principal,
    PrincipalProvider,
    create_api_token,
    register_principal_provider,
    require_principal,
    revoke_api_token,
)
from kit.security import (
    _principals as principals,
)

Result = TypeVar("Result")

SCOPES = frozenset({"default"})


@pytest.fixture
async def http(token_sessions: None) -> AsyncIterator[httpx.AsyncClient]:
    """A service of one endpoint, which tells who called it."""
    app = FastAPI()
    setup_errors(app)

    @app.get("/api/me")
    async def read_me(
        request: Request, principal: Annotated[Principal, Depends(require_principal)]
    ) -> dict[str, object]:
        assert request.state.principal is principal
        return {
            "kind": principal.kind,
            "id": principal.id,
            "name": principal.name,
            "claims": dict(principal.claims),
        }

    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = settings.model_copy(update={"ENVIRONMENT": "production"})
    monkeypatch.setattr(principals, "settings", elsewhere)


@pytest.fixture
def providers(monkeypatch: pytest.MonkeyPatch) -> list[PrincipalProvider]:
    """The registry, whose changes do not outlive the test."""
    registry = [*principals._providers]
    monkeypatch.setattr(principals, "_providers", registry)
    return registry


async def call(
    session: AsyncSession, function: Callable[..., Result], *arguments: object
) -> Result:
    """The function's result, on the sync face of the session, committed."""
    result = await session.run_sync(function, *arguments)
    await session.commit()
    return result


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class TestOutsideLocal:
    @pytest.fixture(autouse=True)
    def _outside_local(self, production: None) -> None: ...

    async def test_anonymous_is_told_to_send_a_token(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/api/me")
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert "Authorization: Bearer" in answer.json()["detail"]

    @pytest.mark.parametrize(
        "header",
        [b"Bearer api_unknown", b"Bearer", b"Bearer ", b"Basic YTpi", b"unknown", b"Bearer \xe9"],
    )
    async def test_wrong_credentials_are_refused(
        self, http: httpx.AsyncClient, header: bytes
    ) -> None:
        answer = await http.get("/api/me", headers={b"Authorization": header})
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'

    async def test_a_token_opens(self, http: httpx.AsyncClient, db_session: AsyncSession) -> None:
        token = await call(db_session, create_api_token, "billing-job")
        answer = await http.get("/api/me", headers=bearer(token))
        assert answer.status_code == 200
        assert answer.json()["kind"] == "api-token"
        assert answer.json()["name"] == "billing-job"

    async def test_a_revoked_token_is_refused(
        self, http: httpx.AsyncClient, db_session: AsyncSession
    ) -> None:
        token = await call(db_session, create_api_token, "billing-job")
        await call(db_session, revoke_api_token, "billing-job")
        assert (await http.get("/api/me", headers=bearer(token))).status_code == 401


class TestLocal:
    async def test_wrong_credentials_are_refused(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/api/me", headers=bearer("api_unknown"))
        assert answer.status_code == 401

    async def test_the_developer_needs_none(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/api/me")
        assert answer.json() == {
            "kind": "local",
            "id": "local",
            "name": "Local developer",
            "claims": {},
        }


class TestScopes:
    @pytest.fixture(autouse=True)
    def _outside_local(self, production: None) -> None: ...

    async def test_a_missing_one_is_named(
        self, http: httpx.AsyncClient, db_session: AsyncSession
    ) -> None:
        token = await call(db_session, create_api_token, "partner", None, ["orders:read"])
        answer = await http.get("/api/me", headers=bearer(token))
        assert answer.status_code == 403
        assert answer.headers["WWW-Authenticate"] == (
            'Bearer error="insufficient_scope", scope="default"'
        )
        assert "scope `default`: that of 'partner' has orders:read" in answer.json()["detail"]

    async def test_without_any_nothing_is_open(
        self, http: httpx.AsyncClient, db_session: AsyncSession
    ) -> None:
        token = await call(db_session, create_api_token, "partner", None, [])
        answer = await http.get("/api/me", headers=bearer(token))
        assert (answer.status_code, "has none" in answer.json()["detail"]) == (403, True)

    @pytest.mark.parametrize("scope", ["default", "*"])
    async def test_what_opens(
        self, http: httpx.AsyncClient, db_session: AsyncSession, scope: str
    ) -> None:
        token = await call(db_session, create_api_token, "partner", None, [scope])
        assert (await http.get("/api/me", headers=bearer(token))).status_code == 200


class TestProviders:
    async def test_another_provider_is_asked(
        self, http: httpx.AsyncClient, providers: list[PrincipalProvider], production: None
    ) -> None:
        @register_principal_provider
        async def from_cookie(request: Request) -> Principal | None:
            user = request.cookies.get("user")
            return (
                Principal(PROGRAMS, user, user.title(), {"role": "editor"}, SCOPES)
                if user
                else None
            )

        http.cookies.set("user", "ada")
        answer = await http.get("/api/me")
        assert answer.json() == {
            "kind": "api-token",
            "id": "ada",
            "name": "Ada",
            "claims": {"role": "editor"},
        }
        http.cookies.clear()
        assert (await http.get("/api/me")).status_code == 401

    def test_registering_twice_counts_once(self, providers: list[PrincipalProvider]) -> None:
        async def provider(_: Request) -> None: ...

        register_principal_provider(provider)
        register_principal_provider(provider)
        assert providers.count(provider) == 1
