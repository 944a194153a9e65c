"""The middleware around every request, outermost first."""

import asyncio
import gc
import ipaddress
import logging
import re
from functools import lru_cache
from http import HTTPStatus
from time import perf_counter
from urllib.parse import urlsplit

from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitResponder
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kit.context import (
    REQUEST_ID_HEADER,
    accepted_request_id,
    bind_request_id,
    is_public,
    reported_client,
    root_path,
    unbind_request_id,
)
from kit.errors import Problem, UnhandledErrorMiddleware, logged_problem, problem_response
from kit.http._openapi import clashing_operations
from kit.http._routers import index_routes
from kit.queue import UNNAMED_PROXY, remember_unnamed_proxy
from kit.security import WEBSOCKET_PROTOCOL, require_principal
from kit.settings import LOCAL_ON_NETWORK, StartupError, settings

logger = logging.getLogger("app.access")


class StartupErrorMiddleware:
    """Reports a `StartupError` to the server as its message, without Starlette's stack trace.

    Starlette reports a lifespan that raised with the whole traceback as the message, which the
    server then logs. Errors other than `StartupError` keep theirs, for debugging. Operation ids
    that clash are no error, and logged.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, and replace the report of a failed start-up."""
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        failure: Message | None = None
        for clash in clashing_operations(scope["app"]):
            logging.getLogger(__name__).warning("%s", clash)

        async def hold_failure_back(message: Message) -> None:
            nonlocal failure
            if message["type"].endswith(".failed"):
                failure = message
            else:
                await send(message)

        try:
            await self.app(scope, receive, hold_failure_back)
        except StartupError as error:
            if failure is None:
                raise
            # Not raised again: the server exits with its own status once it has the message.
            await send({**failure, "message": str(error)})
        except BaseException:
            if failure is not None:
                await send(failure)
            raise


# Starlette decodes a form by any of Python's codecs, of which some fail and some make half pairs.
_ODD_FORM = re.compile(
    rb"multipart/.*;\s*charset[*\d]*\s*="
    rb"(?!\s*\"?(utf-?8|us-ascii|iso-8859-\d+|windows-\d+)\"?\s*(;|$))",
    re.IGNORECASE | re.DOTALL,
)
# An address, or a name that no website has: a page elsewhere that reaches this machine has made a
# name of its own point to it (DNS rebinding).
_LOCAL_HOST = re.compile(r"[\d.]+|.*:.*|[^.]*|.+\.(localhost|local|internal|test)")
_LONGEST_HOST = 255


class SecurityMiddleware:
    """Sends the security headers with every answer, and refuses hosts that are not the service's.

    Health checks may come by any name: a platform uses an address that it alone knows. A proxy that
    is not named is reported, once.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        headers = settings.security_headers.items()
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers]
        self._is_allowed = lru_cache(64)(is_allowed_host)
        self._reported: dict[bool, asyncio.Task[None]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"].endswith("http.response.start"):
                present = {name.lower() for name, _ in message.get("headers", ())}
                missing = [each for each in self._headers if each[0] not in present]
                message["headers"] = [*message.get("headers", ()), *missing]
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self.app(scope, receive, send_with_headers)
        else:
            # Without the request's headers, so that no page with links to that host is made of it.
            response = problem_response(HTTPConnection({**scope, "headers": []}), refusal)
            await response(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Problem | None:
        host, refusal = None, None
        for name, value in scope["headers"]:
            if name == b"host":
                if host is not None:  # Starlette takes the first, others the last
                    refusal = Problem(HTTPStatus.BAD_REQUEST, "Send one `Host` header, not two.")
                host = value
            elif name == b"content-type" and _ODD_FORM.match(value):
                refusal = Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send the form in UTF-8.")
            elif name == b"x-forwarded-for":
                self._report_proxy(scope)
        host = host or b""
        is_allowed = len(host) <= _LONGEST_HOST and self._is_allowed(host)
        if not is_allowed and not _path(scope).startswith("/health/"):
            refusal = Problem(HTTPStatus.BAD_REQUEST, "ALLOWED_HOSTS does not list this host.")
        return refusal

    def _report_proxy(self, scope: Scope) -> None:
        peer = scope["client"][0] if scope.get("client") else "a Unix socket"
        is_anyone = is_public(peer)  # whose report must not take the place of the proxy's
        if is_anyone not in self._reported and reported_client(scope) is not None:
            logger.warning("%s %s", peer, UNNAMED_PROXY)
            self._reported[is_anyone] = asyncio.create_task(remember_unnamed_proxy(peer))


def is_allowed_host(header: bytes) -> bool:
    """Whether the service answers to a `Host` header; without `ALLOWED_HOSTS` to any, but in local.

    In local, addresses and names that no website can have are always allowed.
    """
    try:
        host = (urlsplit(f"//{header.decode('ascii')}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if settings.is_local and _LOCAL_HOST.fullmatch(host):
        return True
    if not settings.ALLOWED_HOSTS:
        return not settings.is_local
    return any(
        host == each or (each[0] == "*" and host.endswith(each[1:]))
        for each in settings.ALLOWED_HOSTS
    )


def _path(scope: Scope) -> str:
    return str(scope["path"]).removeprefix(root_path(scope))


_HEADER = REQUEST_ID_HEADER.lower().encode()
_FIRST_FAILURE = 500


class RequestContextMiddleware:
    """Binds the request id, answers with it, and logs method, path, status and milliseconds.

    The path is the route's template (`/api/rooms/{room_id}`), so that lines can be counted. The
    query is never logged: it may hold secrets of the caller. Successful probes of `/health` are
    logged at DEBUG, since they would drown all other lines.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._is_indexed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection with a request id."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if not self._is_indexed:
            # Now, because a mounted application puts itself into the scope.
            index_routes(scope["app"].router)
            self._is_indexed = True
        request_id = accepted_request_id(_sent_request_id(scope))
        token = bind_request_id(request_id)
        started = perf_counter()
        status: int | None = None
        is_logged = False
        is_token_protocol = WEBSOCKET_PROTOCOL in scope.get("subprotocols", ())

        async def send_with_id(message: Message) -> None:
            nonlocal status, is_logged
            if message["type"] == "http.response.start":
                status = message["status"]
                others = [each for each in message.get("headers", ()) if each[0].lower() != _HEADER]
                message["headers"] = [*others, (_HEADER, request_id.encode())]
            elif message["type"] == "websocket.accept" and is_token_protocol:
                # A browser closes a WebSocket that accepts none of the protocols it offered.
                message["subprotocol"] = message.get("subprotocol") or WEBSOCKET_PROTOCOL
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                # Here and not at the end: background tasks continue after the answer.
                is_logged = True
                self._log(scope, status, perf_counter() - started)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            if not is_logged and scope["type"] == "http":
                self._log(scope, status, perf_counter() - started)
            unbind_request_id(token)

    def _log(self, scope: Scope, status: int | None, seconds: float) -> None:
        path = path_template(scope)
        failed = status is None or status >= _FIRST_FAILURE
        level = logging.WARNING if failed else logging.INFO
        if path.startswith("/health/") and not failed:
            level = logging.DEBUG
        if not logger.isEnabledFor(level):
            return
        milliseconds = round(seconds * 1000, 1)
        # Not `logger.log`, which would look up the stack for where this line is.
        record = logger.makeRecord(
            logger.name,
            level,
            __file__,
            0,
            "%s %s %s in %s ms",
            (scope["method"], path, status or "not answered", milliseconds),
            None,
            extra={
                "method": scope["method"],
                "path": path,
                "status": status,
                "duration_ms": milliseconds,
            },
        )
        logger.handle(record)


def path_template(scope: Scope) -> str:
    """The matched route's whole path; the path as it was sent where no route matched.

    A route of a router that is entered knows its path without prefixes; a mounted application's
    knows its own part, and Starlette adds the mount to `root_path`.
    """
    route = scope.get("route")
    if isinstance(route, Route):
        entered = scope.get("fastapi", {}).get("effective_route_context")
        path = entered.path if getattr(entered, "original_route", None) is route else route.path
        return f"{scope['root_path'].removeprefix(scope.get('app_root_path', ''))}{path}"
    # The raw path is percent-encoded, so it cannot break the line.
    return str(scope.get("raw_path", b""), "ascii", "backslashreplace")


def _sent_request_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == _HEADER:
            return str(value, "latin-1")
    return None


UNCOLLECTED_BYTES = 16_000_000
"""Bytes of bodies after which the collector runs: it counts objects, and a cycle of references that
keeps a megabyte, such as that of an exception's frames, has but a few."""


class RequestBodyMiddleware:
    """Limits a request's body, and has its caller checked before any of it is read.

    FastAPI reads and parses a body before it asks dependencies, that for the principal among them.
    Here that one is asked when the matched route begins to read, so that callers without
    credentials get 401, not 413 or 422; the server drops what they send.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._protected: set[int] | None = None
        self._uncollected = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self._protected is None:
            self._protected = {
                id(context.original_route)
                for context in iter_route_contexts(scope["app"].routes)
                if _needs_principal(getattr(context, "dependant", None))
            }
        body = _LimitedBody(self.app, self._protected)
        try:
            await body(scope, receive, send)
        finally:
            self._uncollected += body.total_size
            if self._uncollected > UNCOLLECTED_BYTES:
                self._uncollected = 0
                gc.collect(1)


class _LimitedBody(RequestBodyLimitResponder):
    """Starlette's responder, which a `max_body_size` of FastAPI's routes and routers changes."""

    def __init__(self, app: ASGIApp, protected: set[int]) -> None:
        super().__init__(app, settings.API_MAX_BODY_SIZE)
        self._unchecked = protected

    async def receive_with_limit(self) -> Message:
        if id(self.scope.get("route")) in self._unchecked:
            self._unchecked = set()
            if require_principal not in self.scope["app"].dependency_overrides:
                await _check_caller(HTTPConnection(self.scope))
        try:
            return await super().receive_with_limit()
        except HTTPException:
            raise Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"Send at most {self.max_body_size:,} bytes to this address.",
            ) from None

    async def send_with_limit(self, message: Message) -> None:
        await self.send(message)  # Starlette would put a 413 in place of a 401


def _needs_principal(dependant: Dependant | None) -> bool:
    return dependant is not None and (
        dependant.call is require_principal or any(map(_needs_principal, dependant.dependencies))
    )


async def _check_caller(connection: HTTPConnection) -> None:
    try:
        await require_principal(connection)
    except HTTPException:
        raise
    except Exception as error:
        # FastAPI calls whatever else happens while it reads a body a mistake of the caller.
        raise logged_problem(error) from error


_OWN_ORIGIN = r"https?://(localhost|.+\.localhost|127\.0\.0\.1|\[::1\])(:\d+)?"


class OwnPagesMiddleware:
    """Refuses, in local, other machines, and pages of other websites in a developer's browser.

    The API asks for no token there. A server may listen elsewhere than `API_HOST` says.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._listed = set(settings.allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request from a page of this machine, or from none.

        Raises:
            Problem: for any other.
        """
        address = (scope.get("server") or ("",))[0]  # a name in tests, a path of a Unix socket
        if address[:1].isdigit() or ":" in address:
            own = ipaddress.ip_address(address)
            if not (getattr(own, "ipv4_mapped", None) or own).is_loopback:
                raise Problem(
                    HTTPStatus.FORBIDDEN,
                    "Set ENVIRONMENT=production: in local, which asks for no token, only this "
                    f"machine is answered. Where that is meant, add {LOCAL_ON_NETWORK} to "
                    "ALLOW_UNSAFE.",
                )
        headers = dict(scope.get("headers", ()))
        origin = str(headers.get(b"origin", b""), "latin-1")
        host = str(headers.get(b"host", b""), "latin-1")  # which `SecurityMiddleware` allowed
        is_own = origin.endswith(f"//{host}") or re.fullmatch(_OWN_ORIGIN, origin)
        if origin and not is_own and origin not in self._listed:
            raise Problem(
                HTTPStatus.FORBIDDEN,
                f"Add the origin to CORS_ORIGINS, as https://app.example.com: in local, only "
                f"pages of this machine are answered, and not {origin}.",
            )
        await self.app(scope, receive, send)


def middleware_stack() -> list[Middleware]:
    """The list for `FastAPI(middleware=…)`.

    All are plain ASGI: Starlette's `BaseHTTPMiddleware` would cost a task for each request, and
    would hide a context variable that an endpoint sets.
    """
    is_for_this_machine = settings.is_local and LOCAL_ON_NETWORK not in settings.ALLOW_UNSAFE
    return [
        Middleware(StartupErrorMiddleware),
        Middleware(RequestContextMiddleware),
        Middleware(SecurityMiddleware),
        # Callers authenticate with a bearer token, never with a cookie, so no credentials: with
        # them, any listed origin could act as the browser's user.
        Middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_origin_regex=_OWN_ORIGIN if settings.is_local else None,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=[REQUEST_ID_HEADER, "Retry-After", "RateLimit", "RateLimit-Policy"],
        ),
        Middleware(RequestBodyMiddleware),
        Middleware(UnhandledErrorMiddleware),
        *([Middleware(OwnPagesMiddleware)] if is_for_this_machine else []),
    ]
