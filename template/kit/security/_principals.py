"""Principals: who calls, and the providers that identify the caller of a request.

A provider reads a request, or the opening request of a WebSocket, and returns its principal, or
None when it finds no credentials of its kind. The kit's provider knows bearer API tokens; an
extension adds its own with `register_principal_provider`, for example for the JWTs of Supabase
Auth.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

from fastapi import Depends, HTTPException
from fastapi.requests import HTTPConnection
from fastapi.security import HTTPBearer

from kit.security._api_tokens import find_token
from kit.security._rate_limit import limit_address, limit_rate
from kit.settings import settings


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request.

    Attributes:
        kind: kind of caller, which its provider sets, for example `api-token`.
        id: identifies the caller within its kind.
        name: the caller's name in logs.
        claims: further verified facts, for example the claims of a token.
    """

    kind: str
    id: str
    name: str
    claims: Mapping[str, Any] = field(default_factory=dict, hash=False)


# `Any` stands for `HTTPConnection`, so that a provider may declare that it takes a `Request`.
PrincipalProvider = Callable[[Any], Awaitable[Principal | None]]

LOCAL_PRINCIPAL = Principal(kind="local", id="local", name="Local developer")
"""The principal of a call without credentials on a developer's machine."""

_providers: list[PrincipalProvider] = []

_IDENTIFIED = "kit.principal"
"""Key of a request's scope: its principal, once that is known."""

WEBSOCKET_PROTOCOL = "bearer"
"""The subprotocol after which a browser sends a token, since its scripts cannot set headers."""


class _DocumentedScheme(HTTPBearer):
    """Names the scheme in the OpenAPI document; `require_principal` verifies the credentials."""

    async def __call__(self, request: HTTPConnection) -> None:
        """Do nothing."""


_bearer = _DocumentedScheme(
    scheme_name="API token", description="A token that `make token` printed."
)


def register_principal_provider(provider: PrincipalProvider) -> PrincipalProvider:
    """Register a provider, to be asked after those registered before; usable as a decorator.

    Registering the same function twice counts once.
    """
    if provider not in _providers:
        _providers.append(provider)
    return provider


async def require_principal(
    request: HTTPConnection, _scheme: Annotated[None, Depends(_bearer)] = None
) -> Principal:
    """Identify the caller of a route or WebSocket, also stored in `request.state.principal`.

    On a developer's machine a call without credentials counts as the developer's; wrong credentials
    are refused there as anywhere else.

    Raises:
        HTTPException: 401 when no provider knows the caller; 429 when it sends too many requests.
    """
    if (known := request.scope.get(_IDENTIFIED)) is not None:  # before the body was read
        return cast("Principal", known)
    for provider in _providers:
        if principal := await provider(request):
            break
    else:
        await limit_address(request)
        principal = _anonymous(request)
    limit_rate(f"{principal.kind}:{principal.id}")
    request.scope[_IDENTIFIED] = request.state.principal = principal
    return principal


def bearer_token(request: HTTPConnection) -> str | None:
    """The token after `Authorization: Bearer`, of any kind; None where there is none.

    A WebSocket may send it as a subprotocol instead: `new WebSocket(url, ["bearer", token])`.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip() or None
    offered: list[str] = request.scope.get("subprotocols", [])
    return offered[1] if offered[:1] == [WEBSOCKET_PROTOCOL] and len(offered) > 1 else None


def _anonymous(request: HTTPConnection) -> Principal:
    if "authorization" in request.headers or bearer_token(request):
        raise HTTPException(
            401,
            "The credentials are unknown, expired or revoked.",
            headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
        )
    if settings.is_local:
        return LOCAL_PRINCIPAL
    raise HTTPException(
        401,
        "This needs a token: send the header `Authorization: Bearer <token>`.",
        headers={"WWW-Authenticate": "Bearer"},
    )


@register_principal_provider
async def api_token_principal(request: HTTPConnection) -> Principal | None:
    """The principal of the API token in the request; None without a valid one."""
    token = bearer_token(request)
    found = await find_token(token) if token else None
    return found and Principal(kind="api-token", id=str(found.id), name=found.name)
