"""Principals: who calls, the providers that identify them, whom a route serves, and how often.

A provider reads a request, or the opening request of a WebSocket, and returns its principal, or
None when it finds no credentials of its kind. The kit's provider knows bearer API tokens; an
extension adds its own with `register_principal_provider`, for example for the JWTs of Supabase
Auth. To be known is not to be served: a route or router says whom it serves with `serves`.

The rate limit is one caller's requests in a minute, over all processes of the API. Each process
counts in memory, and adds its count to Redis when a caller has sent a batch, in the background:
most callers never do, no request waits for Redis, and without it each process limits by its own
count. All processes together let through at most a tenth more than the limit.

The window slides: what was counted in the minute before fades as this one passes. Source:
https://blog.cloudflare.com/counting-things-a-lot-of-different-things/
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from math import ceil
from typing import Annotated, Any, NewType, cast

from fastapi import Depends, HTTPException
from fastapi.dependencies.models import Dependant
from fastapi.requests import HTTPConnection
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.applications import Starlette

from kit.context import client_address, client_network
from kit.errors import Problem
from kit.redis import redis_client, run_redis_call
from kit.security._credentials import ALL_SCOPES, DEFAULT_SCOPE, find_token
from kit.settings import settings

logger = logging.getLogger(__name__)


Kind = NewType("Kind", str)
"""A kind of principals, for `serves`; a provider of your own may have one: `Kind("partner")`."""

PROGRAMS = Kind("api-token")
"""Programs, which send an API token."""
USERS = Kind("user")
"""People who have an account with Supabase Auth; the extension accounts identifies them."""
ANONYMOUS_USERS = Kind("anonymous-user")
"""People whom Supabase Auth signed in without an identity; their `Principal.kind` is `user` too."""
ANYONE = Kind("anyone")
"""What a `public_router` serves; its routes ask nobody who they are."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request.

    Attributes:
        kind: kind of caller, which its provider sets, for example `api-token`.
        id: identifies the caller within its kind.
        name: the caller's name in logs.
        claims: further verified facts, for example the claims of a token.
        scopes: what an API token may be used for; `*` for everything.
    """

    kind: str
    id: str
    name: str
    claims: Mapping[str, Any] = field(default_factory=dict, hash=False)
    scopes: frozenset[str] = frozenset()

    @property
    def served_as(self) -> Kind:
        """The kind that a route has to name; the developer without credentials is a program."""
        if self.kind == USERS and self.claims.get("is_anonymous"):
            return ANONYMOUS_USERS
        return PROGRAMS if self.kind == LOCAL_PRINCIPAL.kind else Kind(self.kind)


# `Any` stands for `HTTPConnection`, so that a provider may declare that it takes a `Request`.
PrincipalProvider = Callable[[Any], Awaitable[Principal | None]]

LOCAL_PRINCIPAL = Principal(
    kind="local", id="local", name="Local developer", scopes=frozenset({ALL_SCOPES})
)
"""The principal of a call without credentials on a developer's machine."""

_providers: list[PrincipalProvider] = []

_IDENTIFIED = "kit.principal"
"""Key of a request's scope: its principal, once that is known."""

WEBSOCKET_PROTOCOL = "bearer"
"""The subprotocol after which a browser sends a token, since its scripts cannot set headers."""


def register_principal_provider(provider: PrincipalProvider) -> PrincipalProvider:
    """Register a provider, to be asked after those registered before; usable as a decorator.

    Registering the same function twice counts once.
    """
    if provider not in _providers:
        _providers.append(provider)
    return provider


async def require_principal(request: HTTPConnection) -> Principal:
    """Identify the caller of a route or WebSocket, also stored in `request.state.principal`.

    On a developer's machine a call without credentials counts as the developer's; wrong credentials
    are refused there as anywhere else.

    Raises:
        HTTPException: 401 when no provider knows the caller; 403 when the route does not serve it;
            429 when it sends too many requests.
    """
    if (known := request.scope.get(_IDENTIFIED)) is not None:  # before the body was read
        return cast("Principal", known)
    for provider in _providers:
        try:
            if principal := await provider(request):
                break
        except (HTTPException, Problem):  # for credentials of its kind, which it refuses
            await limit_address(request)
            raise
    else:
        await limit_address(request)
        principal = _without_credentials(request)
    limit_rate(f"{principal.kind}:{principal.id}")
    request.state.principal = principal
    policy = _policy(request)
    if policy.serves(principal):
        request.scope[_IDENTIFIED] = principal
        return principal
    if principal.served_as != PROGRAMS or PROGRAMS not in policy.kinds:
        raise HTTPException(403, f"This is for others: it serves {policy}, and no one else.")
    has = ", ".join(sorted(principal.scopes)) or "none"
    raise HTTPException(
        403,
        f"Send a token with the scope `{policy.scope}`: that of {principal.name!r} has {has}.",
        headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{policy.scope}"'},
    )


@dataclass(frozen=True)
class Serves:
    """Whom a route serves: what `serves` says, as a dependency that returns the principal.

    The fields are the arguments of `serves`; no kinds stand for a route that is included twice and
    says two different things.
    """

    kinds: tuple[Kind, ...] = (PROGRAMS,)
    scope: str = DEFAULT_SCOPE
    write_scope: str = ""
    is_shared: bool = False

    async def __call__(
        self, principal: Annotated[Principal, Depends(require_principal)]
    ) -> Principal:
        """Return the principal, whom `require_principal` has found to be served."""
        return principal

    def __str__(self) -> str:
        """Whom, for people: "programs with the scope `orders:read`, users"."""
        programs = f"programs with the scope `{self.scope}`"
        names = {PROGRAMS: programs, ANONYMOUS_USERS: "anonymous users", USERS: "users"}
        return ", ".join(names.get(kind, kind) for kind in self.kinds) or "no one"

    def serves(self, principal: Principal) -> bool:
        """Whether the principal is of such a kind, and has the scope if it is a program."""
        kind = principal.served_as
        return kind in self.kinds and (
            kind != PROGRAMS or not principal.scopes.isdisjoint((self.scope, ALL_SCOPES))
        )

    @property
    def rows(self) -> str:
        """Which rows a user gets, for people."""
        return "shared rows" if self.is_shared else "own rows"


def serves(
    *kinds: Kind, scope: str = DEFAULT_SCOPE, write_scope: str = "", shared: bool = False
) -> Any:
    """Say whom a router or route serves: `APIRouter(dependencies=[serves(USERS)])`.

    What stands nearest to the endpoint counts: a route's own line replaces its router's.

    Args:
        kinds: without any, programs.
        scope: what a program's token has to have, for example `orders:read`.
        write_scope: the same for requests other than GET and HEAD, for example `orders:write`.
        shared: users get the same rows as everybody; the route need not ask who calls.

    Raises:
        ValueError: when a scope has other characters than `a-z0-9_.:-`, or no program is served.
    """
    for each in {scope, write_scope or scope} - {DEFAULT_SCOPE}:
        if not re.fullmatch(r"[a-z0-9_.:-]+", each):
            raise ValueError(f"a scope has the characters a-z0-9_.:- alone, {each!r} has others")
        if kinds and PROGRAMS not in kinds:
            raise ValueError(f"add PROGRAMS: the scope {each!r} is for them, and none is served")
    return Depends(Serves(kinds or (PROGRAMS,), scope, write_scope, shared))


async def serve_anyone(request: HTTPConnection) -> None:
    """Count a request of a route that asks nobody who they are, of a `public_router`."""
    await limit_address(request)


GUARDS: dict[Any, Serves] = {serve_anyone: Serves((ANYONE,))}
"""Dependencies that decide whom a route serves, if it does not take a principal."""


def routes_and_callers(application: Starlette) -> Iterator[tuple[RouteContext, Serves | None]]:
    """List the application's routes, and whom each serves; None where no dependency says it."""
    for context in iter_route_contexts(application.routes):
        yield context, _whom_it_serves(context)


def _whom_it_serves(route: Any) -> Serves | None:
    dependant = getattr(route, "dependant", None)
    calls = [*_calls(dependant)] if dependant else []
    said = [call for call in calls if isinstance(call, Serves)]
    if not said and require_principal not in calls:
        return next((GUARDS[call] for call in reversed(calls) if call in GUARDS), None)
    policy, methods = said[-1] if said else Serves(), getattr(route, "methods", None)
    if policy.write_scope and not (methods and methods <= {"GET", "HEAD"}):
        return replace(policy, scope=policy.write_scope)
    return policy


def asks_who_calls(dependant: Dependant) -> bool:
    """Whether the endpoint, or a dependency of it, takes the principal."""
    return not isinstance(dependant.call, Serves) and any(
        (each.name and (each.call is require_principal or isinstance(each.call, Serves)))
        or asks_who_calls(each)
        for each in dependant.dependencies
    )


def _calls(dependant: Dependant) -> Iterator[Any]:
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from _calls(dependency)


def _policy(request: HTTPConnection) -> Serves:
    """Whom the matched route serves, with what the routers say that include it."""
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):  # the route of a WebSocket is complete
        return _whom_it_serves(route) or Serves()
    state = request.app.state
    # The route is kept beside its policy, so that no other one can have its id.
    known: dict[int, tuple[Any, Serves]] = getattr(state, "callers_of_routes", {})
    state.callers_of_routes = known
    if id(route) not in known:
        # A route in the scope is as it was written, without the routers that include it.
        for context, policy in routes_and_callers(request.app):
            original = context.original_route
            if policy and known.setdefault(id(original), (original, policy))[1] != policy:
                known[id(original)] = original, Serves(())  # included twice, for different callers
        known.setdefault(id(route), (route, _whom_it_serves(route) or Serves()))
    return known[id(route)][1]


def bearer_token(request: HTTPConnection) -> str | None:
    """The token after `Authorization: Bearer`, of any kind; None where there is none.

    A WebSocket may send it as a subprotocol instead: `new WebSocket(url, ["bearer", token])`.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip() or None
    offered: list[str] = request.scope.get("subprotocols", [])
    return offered[1] if offered[:1] == [WEBSOCKET_PROTOCOL] and len(offered) > 1 else None


def _without_credentials(request: HTTPConnection) -> Principal:
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
    return Principal(PROGRAMS, str(found.id), found.name, scopes=found.scopes) if found else None


WINDOW = 60
PAUSE = 10
"""Seconds: of the window, and without another try after Redis has failed."""

MOST_CALLERS = 65_536
"""Callers that a process counts in a window; beyond, it forgets the first, to bound memory."""

QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
"""Type of the problem; it and the headers are those of
https://www.ietf.org/archive/id/draft-ietf-httpapi-ratelimit-headers-10.txt
"""


@dataclass(slots=True)
class _Count:
    """Requests of a caller in a window: those let through here and reported, others' as known."""

    here: int = 0
    reported: int = 0
    elsewhere: int = 0


class RateLimit:
    """A limit of requests in a window, for an API of so many processes; one needs no Redis."""

    def __init__(self, limit: int, processes: int) -> None:
        self.limit = limit
        self._batch = max(1, limit // (10 * processes)) if processes > 1 else limit + 1
        self._window = 0
        self._counts: dict[str, _Count] = {}
        self._before: dict[str, _Count] = {}
        self._report: asyncio.Task[None] | None = None
        self._next_report = 0.0

    def admit(self, caller: str) -> None:
        """Count a request.

        Raises:
            Problem: 429 when the caller has sent too many; the request does not count then.
        """
        now = time.time()
        window, left = int(now // WINDOW), WINDOW - now % WINDOW
        if window != self._window:
            self._before = self._counts if window == self._window + 1 else {}
            self._counts, self._window = {}, window
        count = self._counts.get(caller)
        if count is None:
            if len(self._counts) >= MOST_CALLERS:
                del self._counts[next(iter(self._counts))]
            count = self._counts[caller] = _Count()
        sent, fading = count.here + count.elsewhere, 0
        if before := self._before.get(caller):
            fading = before.here + before.elsewhere
        if sent + fading * left / WINDOW >= self.limit:
            raise self._refusal(sent, fading, left)
        count.here += 1
        # One report at a time: while Redis is slow, the next has what was counted meanwhile.
        if (
            count.here - count.reported >= self._batch
            and self._report is None
            and now >= self._next_report
        ):
            self._report = asyncio.create_task(self._send(caller, window, count))

    def _refusal(self, sent: int, fading: int, left: float) -> Problem:
        wait = left if sent >= self.limit else left - WINDOW * (self.limit - sent) / fading
        seconds = max(1, ceil(wait))
        members: dict[str, Any] = {"violated-policies": ["requests"]}
        return Problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"Wait {seconds} s: one caller may send {self.limit} requests in {WINDOW} seconds.",
            type=QUOTA_EXCEEDED,
            headers={
                "Retry-After": str(seconds),
                "RateLimit-Policy": f'"requests";q={self.limit};w={WINDOW}',
                "RateLimit": f'"requests";r=0;t={seconds}',
            },
            **members,
        )

    async def _send(self, caller: str, window: int, count: _Count) -> None:
        unknown, is_first = count.here - count.reported, not count.reported
        key = f"{settings.REDIS_KEY_PREFIX}rate-limit:{caller}:"

        def add() -> list[Any]:
            pipeline = redis_client().pipeline()
            pipeline.incrby(f"{key}{window}", unknown)
            pipeline.expire(f"{key}{window}", 2 * WINDOW)
            if is_first:  # what other processes let through before
                pipeline.get(f"{key}{window - 1}")
            return pipeline.execute()

        try:
            total, _, *fading = await run_redis_call(add)
        except Exception as error:  # noqa: BLE001 (no request needs it)
            self._next_report = time.time() + PAUSE
            logger.warning("each process keeps the rate limit of /api by itself: %s", error)
        else:
            count.reported += unknown
            count.elsewhere = total - count.reported
            if fading and fading[0] and window == self._window:
                before = self._before.setdefault(caller, _Count())
                before.elsewhere = max(before.elsewhere, int(fading[0]) - before.reported)
        finally:
            self._report = None


_rate_limit = RateLimit(settings.rate_limit, settings.API_INSTANCES * settings.API_WORKERS)


def limit_rate(caller: str) -> None:
    """Count a request of a principal or address; raises the `Problem` of `RateLimit.admit`."""
    if _rate_limit.limit:
        _rate_limit.admit(caller)


async def limit_address(request: HTTPConnection) -> None:
    """Count a request of a caller who is not identified; as a dependency of public routes too."""
    limit_rate(client_network(client_address(request.scope)))
