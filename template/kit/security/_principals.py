"""Who is calling: the principal behind a request, and the providers that can tell.

A provider reads a request and gives its principal, or nothing when it finds no credentials of its
kind. The core knows bearer API tokens; an extension adds its own with
`register_principal_provider`, for example for the JWTs of Supabase Auth.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from kit.security._api_tokens import find_token
from kit.settings import settings


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling.

    Attributes:
        kind: which provider told, for example `api-token`.
        id: what identifies the caller within its kind.
        name: what to call it in logs.
        claims: what the provider vouches for besides, for example the claims of a verified token.
    """

    kind: str
    id: str
    name: str
    claims: Mapping[str, Any] = field(default_factory=dict, hash=False)


PrincipalProvider = Callable[[Request], Awaitable[Principal | None]]

LOCAL_PRINCIPAL = Principal(kind="local", id="local", name="Local developer")
"""Who calls a developer's machine without credentials."""

_providers: list[PrincipalProvider] = []

# Names the scheme in the OpenAPI document; `require_principal` judges the credentials.
_bearer = HTTPBearer(
    auto_error=False, scheme_name="API token", description="A token that `make token` printed."
)


def register_principal_provider(provider: PrincipalProvider) -> PrincipalProvider:
    """Ask this provider too, after those registered before; usable as a decorator.

    Registering the same function twice counts once.
    """
    if provider not in _providers:
        _providers.append(provider)
    return provider


async def require_principal(
    request: Request,
    _credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)] = None,
) -> Principal:
    """The caller, who is also left in `request.state.principal`.

    On a developer's machine a call without credentials is the developer's own; wrong credentials
    are refused there as anywhere.

    Raises:
        HTTPException: 401 when no provider knows the caller.
    """
    for provider in _providers:
        if principal := await provider(request):
            break
    else:
        principal = _anonymous(request)
    request.state.principal = principal
    return principal


def bearer_token(request: Request) -> str | None:
    """The token after `Authorization: Bearer`, whatever its kind; None where there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return (token.strip() or None) if scheme.lower() == "bearer" else None


def _anonymous(request: Request) -> Principal:
    if "authorization" in request.headers:
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
async def api_token_principal(request: Request) -> Principal | None:
    """The program whose API token the request bears."""
    token = bearer_token(request)
    found = await find_token(token) if token else None
    return found and Principal(kind="api-token", id=str(found.id), name=found.name)
