"""The middleware around every request, outermost first."""

import gc
import logging
from http import HTTPStatus
from time import perf_counter

from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitResponder
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kit.context import REQUEST_ID_HEADER, accepted_request_id, bind_request_id, unbind_request_id
from kit.errors import Problem, UnhandledErrorMiddleware, logged_problem
from kit.security import WEBSOCKET_PROTOCOL, require_principal
from kit.settings import StartupError, settings


class StartupErrorMiddleware:
    """Reports a `StartupError` to the server as its message, without Starlette's stack trace.

    Starlette reports a lifespan that raised with the whole traceback as the message, which the
    server then logs. Errors other than `StartupError` keep theirs, for debugging.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, and replace the report of a failed start-up."""
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        failure: Message | None = None

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


logger = logging.getLogger("app.access")

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
        self._templates: dict[int, str] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection with a request id."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if self._templates is None:
            # Now, because a mounted application puts itself into the scope.
            self._templates = _path_templates(scope["app"])
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
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
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
        path = self._path_template(scope)
        failed = status is None or status >= _FIRST_FAILURE
        level = logging.WARNING if failed else logging.INFO
        if path.startswith("/health/") and not failed:
            level = logging.DEBUG
        if not logger.isEnabledFor(level):
            return
        milliseconds = round(seconds * 1000, 1)
        logger.log(
            level,
            "%s %s %s in %s ms",
            scope["method"],
            path,
            status or "not answered",
            milliseconds,
            extra={
                "method": scope["method"],
                "path": path,
                "status": status,
                "duration_ms": milliseconds,
            },
        )

    def _path_template(self, scope: Scope) -> str:
        """The matched route's whole path; the path as it was sent where no route matched.

        An included router's route knows its path without the prefixes, hence the table; a mounted
        application's route knows its own part, and Starlette adds the mount to `root_path`.
        """
        route = scope.get("route")
        if template := (self._templates or {}).get(id(route)):
            return template
        if isinstance(route, Route):
            mount = scope["root_path"].removeprefix(scope.get("app_root_path", ""))
            return f"{mount}{route.path}"
        # The raw path is percent-encoded, so it cannot break the line.
        return str(scope.get("raw_path", b""), "ascii", "backslashreplace")


def _path_templates(app: Starlette) -> dict[int, str]:
    return {
        id(context.original_route): context.path
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, Route) and context.path
    }


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


def middleware_stack() -> list[Middleware]:
    """The list for `FastAPI(middleware=…)`.

    All are plain ASGI: Starlette's `BaseHTTPMiddleware` would cost a task for each request, and
    would hide a context variable that an endpoint sets.
    """
    return [
        Middleware(StartupErrorMiddleware),
        Middleware(RequestContextMiddleware),
        # Callers authenticate with a bearer token, never with a cookie, so no credentials: with
        # them, any listed origin could act as the browser's user.
        Middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=[REQUEST_ID_HEADER, "Retry-After", "RateLimit", "RateLimit-Policy"],
        ),
        Middleware(RequestBodyMiddleware),
        Middleware(UnhandledErrorMiddleware),
    ]
