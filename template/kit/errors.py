"""Errors: one document for all of them.

It is problem details, RFC 9457, as `application/problem+json`. Raise `Problem` (or FastAPI's
`HTTPException`) for errors of the caller. Any other exception of an endpoint becomes 503 when a
server it needs is lost, 409 when the change conflicts with stored rows, and otherwise 500, with
the cause in the log and not in the answer.

https://www.rfc-editor.org/rfc/rfc9457
"""

import asyncio
import logging
from contextlib import suppress
from http import HTTPStatus
from inspect import iscoroutinefunction
from typing import Any, Literal, cast
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.status import WS_1008_POLICY_VIOLATION, WS_1011_INTERNAL_ERROR
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketState

from kit.causes import (
    breaks_rule,
    broken_constraint,
    first_line,
    is_conflict,
    is_outage,
    is_unstorable,
)
from kit.context import get_request_id, root_path
from kit.database import ReadOnlyViolationError
from kit.places import service
from kit.redis import PayloadTooLargeError

__all__ = [
    "RETRY_AFTER_SECONDS",
    "Problem",
    "UnhandledErrorMiddleware",
    "document_problems",
    "first_line",
    "is_outage",
    "logged_problem",
    "problem_for",
    "problem_response",
    "setup_errors",
]

logger = logging.getLogger(__name__)

PROBLEM_MEDIA_TYPE = "application/problem+json"
_REFERENCE = "#/components/schemas/{model}"
_FASTAPI_SCHEMAS = ("HTTPValidationError", "ValidationError")


class ProblemError(BaseModel):
    """One mistake in a request."""

    place: Literal["body", "query", "path", "header", "cookie"] = Field(
        alias="in", description="Part of the request that holds the mistake."
    )
    pointer: str = Field(
        description="JSON pointer to the mistake within that part.", examples=["/items/0/name"]
    )
    detail: str = Field(description="What is wrong.", examples=["Field required"])
    code: str = Field(description="The rule that was broken.", examples=["missing"])


class ProblemDetails(BaseModel):
    """The body of every error: problem details for HTTP APIs, RFC 9457."""

    type: str = Field(
        description="URI of the kind of problem; about:blank where the status is enough.",
        examples=["about:blank"],
    )
    title: str = Field(description="The kind of problem, in words.", examples=["Not Found"])
    status: int = Field(description="The HTTP status.", ge=400, le=599, examples=[404])
    detail: str = Field(description="What is wrong with this request.")
    instance: str = Field(description="Path of the request.", examples=["/api/tasks/1"])
    request_id: str = Field(description="Names this request in the service's log.")
    errors: list[ProblemError] = Field(
        default_factory=list, description="Every mistake, where a request does not validate."
    )
    constraint: str | None = Field(
        None, description="The constraint or column of the database that refuses the change."
    )
    data: Any = Field(None, description="More about the mistake, for programs.")


def document_problems(schema: dict[str, Any]) -> None:
    """Add the problem document to an OpenAPI schema, for each operation's errors.

    OpenAPI's `default` stands for every status that is not listed; FastAPI's own description of
    422 would be wrong here and is replaced.
    """
    own = ProblemDetails.model_json_schema(by_alias=True, ref_template=_REFERENCE)
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    for name in _FASTAPI_SCHEMAS:
        schemas.pop(name, None)
    schemas |= own.pop("$defs")
    schemas["ProblemDetails"] = own
    reference = {"$ref": _REFERENCE.format(model="ProblemDetails")}
    content = {PROBLEM_MEDIA_TYPE: {"schema": reference}}
    for path in schema["paths"].values():
        for operation in path.values():
            responses = operation["responses"]
            if "422" in responses:
                responses["422"] = {"description": "Validation error", "content": content}
            responses.setdefault("default", {"description": "Any other error", "content": content})


RETRY_AFTER_SECONDS = 5
"""The `Retry-After` of a 503: a lost server is rarely back sooner."""

_DEFAULT_DETAILS: dict[int, str] = {
    HTTPStatus.NOT_FOUND: "There is nothing at this address.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This address does not answer to this method.",
}
_LONGEST_CLOSE_REASON = 123
"""Bytes: https://www.rfc-editor.org/rfc/rfc6455#section-5.5"""


class Problem(HTTPException):
    """An error to raise from an endpoint or a dependency.

    Args:
        status: HTTP status, 400 to 599.
        detail: The mistake in this request, and what is expected instead.
        title: The kind of problem; the status's own phrase when left out.
        type: URI of the kind of problem, for callers that distinguish several of one status.
        headers: Headers of the answer, for example `Retry-After` in seconds.
        **members: Further members of the document, as JSON values.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        title: str | None = None,
        type: str = "about:blank",  # noqa: A002 (the RFC's name)
        headers: dict[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(status, detail, headers)
        self.title = title
        self.type = type
        self.members = members


def problem_for(error: Exception) -> Problem:
    """The problem to answer for an exception that no endpoint handled, without its message."""
    if is_outage(error):
        return Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "A server that this service needs is not available right now. Try again later.",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )
    if refusal := _refusal_by_database(error):
        return refusal
    if isinstance(error, ClientDisconnect):
        return Problem(HTTPStatus.BAD_REQUEST, "The request did not arrive completely.")
    if isinstance(error, PayloadTooLargeError):
        return Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "This is more data than one task may have."
        )
    if isinstance(error, ReadOnlyViolationError):
        return Problem(
            HTTPStatus.NOT_IMPLEMENTED,
            "Use `SessionDep` in this route: it writes, and `ReadSessionDep` only reads.",
        )
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "The service failed. Its log has the error, under the request id.",
    )


def _refusal_by_database(error: Exception) -> Problem | None:
    if is_conflict(error):
        return Problem(
            HTTPStatus.CONFLICT,
            "The change conflicts with what is already stored.",
            constraint=broken_constraint(error),
        )
    if breaks_rule(error):
        constraint = broken_constraint(error)
        named = f": {constraint}" if constraint else ""  # a trigger may raise without a name
        return Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"A rule of the database refuses this{named}.",
            constraint=constraint,
        )
    if is_unstorable(error):
        return Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "A value cannot be stored: too long, out of range, or with an unsupported character.",
        )
    return None


def problem_response(request: HTTPConnection, error: HTTPException) -> Response:
    """The answer for an error: a page for a browser on a page, problem details for all others."""
    if error.status_code < HTTPStatus.BAD_REQUEST:
        return Response(status_code=error.status_code, headers=error.headers)
    document = _document(request, error)
    if _wants_page(request):
        try:
            return service.templates.TemplateResponse(
                Request(request.scope),
                "error.html",
                {"problem": document},
                status_code=error.status_code,
                headers=error.headers,
            )
        except Exception:
            # The page itself may be broken; the document below needs no template.
            logger.exception("the error page failed")
    return JSONResponse(
        document,
        status_code=error.status_code,
        headers=error.headers,
        media_type=PROBLEM_MEDIA_TYPE,
    )


async def answer_http_exception(request: HTTPConnection, error: Exception) -> Any:
    """Answer `HTTPException`: an endpoint's, and the router's own 404 and 405.

    A WebSocket that is not accepted yet gets the same answer. Later it is closed with the detail.
    """
    problem = cast("HTTPException", error)
    if problem.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (methods := _methods_at(request)):
        problem.headers = {**(problem.headers or {}), "Allow": ", ".join(methods)}
    if not isinstance(request, WebSocket) or request.application_state is WebSocketState.CONNECTING:
        return problem_response(request, problem)
    is_callers = problem.status_code < HTTPStatus.INTERNAL_SERVER_ERROR
    reason = str(problem.detail).encode()[:_LONGEST_CLOSE_REASON].decode(errors="ignore")
    await request.close(WS_1008_POLICY_VIOLATION if is_callers else WS_1011_INTERNAL_ERROR, reason)
    return None


def _methods_at(request: HTTPConnection) -> list[str]:
    """The methods of all routes at this path: the router itself names those of the first."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return sorted(
        {
            method
            for context in iter_route_contexts(request.app.routes)
            if context.methods and context.path_regex.match(path)
            for method in context.methods
        }
    )


async def answer_validation_error(request: Request, error: Exception) -> Response:
    """Answer a request that does not fit the endpoint's declaration: 422, with every mistake."""
    errors = cast("RequestValidationError", error).errors()
    problem = Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The request does not have the expected form.",
        errors=[_validation_entry(entry) for entry in errors],
    )
    return problem_response(request, problem)


def logged_problem(error: Exception) -> Problem:
    """The problem for an exception, which is logged: outages in a line, bugs with a stack trace."""
    problem = problem_for(error)
    _log(error, problem.status_code)
    return problem


def setup_errors(application: FastAPI) -> None:
    """Register the handlers; `UnhandledErrorMiddleware` belongs to `middleware_stack`.

    Middleware that is added from now on stands inside of what is there, so that its errors are
    answered and its requests logged like all others. FastAPI would put it outside. One of a class
    that is there already, such as `CORSMiddleware`, takes its place.
    """
    application.add_exception_handler(HTTPException, answer_http_exception)
    application.add_exception_handler(RequestValidationError, answer_validation_error)
    outer = list(application.user_middleware)
    build = application.build_middleware_stack

    def build_with_own_inside() -> ASGIApp:
        own = [each for each in application.user_middleware if each not in outer]
        replaced = {each.cls: each for each in own}
        stack = [replaced.get(each.cls, each) for each in outer]
        application.user_middleware = [*stack, *(each for each in own if each not in stack)]
        return build()

    application.build_middleware_stack = build_with_own_inside  # type: ignore[method-assign]


class UnhandledErrorMiddleware:
    """Answers exceptions that nothing handled, inside of the CORS and request id middleware.

    A handler registered for `Exception` runs outside of all middleware: its answers lack the CORS
    headers, so a browser's script would not even see the status, and it raises the exception again,
    which the server logs a second time. So the application's handlers are called here.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket, and answer an exception with a problem."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        application = scope["app"]  # now, because a mounted application puts itself there
        started = finished = False

        async def watch(message: Message) -> None:
            nonlocal started, finished
            started = started or message["type"].endswith((".start", ".accept", ".close"))
            finished = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception as error:
            connection = (
                Request(scope, receive) if scope["type"] == "http" else HTTPConnection(scope)
            )
            response = await _answer(application, connection, error)
            if not started:
                await response(scope, receive, send)
            elif scope["type"] == "websocket":
                with suppress(Exception):  # where it is closed already
                    await send({"type": "websocket.close", "code": WS_1011_INTERNAL_ERROR})
            elif not finished:
                # The answer has begun: only a closed connection shows the caller that it failed.
                raise
        except asyncio.CancelledError as error:
            if "graceful shutdown" not in str(error):
                raise
            # uvicorn stops, and would log what it has cut off as an error, and answer with 500.
            if not started and scope["type"] == "http":
                stop = Problem(503, "The service stops. Try again.", headers={"Retry-After": "1"})
                await problem_response(Request(scope), stop)(scope, receive, send)


async def _answer(application: Starlette, request: HTTPConnection, error: Exception) -> Response:
    """The answer of the handler that the application has for an exception, else the kit's."""
    handlers: dict[Any, Any] = application.exception_handlers
    known = (handlers[kind] for kind in type(error).__mro__ if kind in handlers)
    handler = next(known, handlers.get(HTTPStatus.INTERNAL_SERVER_ERROR))
    if handler is None:
        return problem_response(request, logged_problem(error))
    if not isinstance(error, HTTPException):
        _log(error, problem_for(error).status_code)
    if iscoroutinefunction(handler):
        return cast("Response", await handler(request, error))
    return cast("Response", await run_in_threadpool(handler, request, error))


def _log(error: Exception, status: int) -> None:
    if status < HTTPStatus.INTERNAL_SERVER_ERROR or is_outage(error):
        logger.warning(
            "answered %s because of %s: %s", status, type(error).__name__, first_line(error)
        )
    else:
        logger.error("unhandled error", exc_info=error)


def _document(request: HTTPConnection, error: HTTPException) -> dict[str, Any]:
    known = error.status_code in HTTPStatus.__members__.values()
    phrase = HTTPStatus(error.status_code).phrase if known else "Error"
    is_text = isinstance(error.detail, str)
    detail = error.detail if is_text else phrase
    if detail == phrase:
        detail = _DEFAULT_DETAILS.get(error.status_code, detail)
    return {
        "type": getattr(error, "type", "about:blank"),
        "title": getattr(error, "title", None) or phrase,
        "status": error.status_code,
        "detail": detail,
        "instance": quote(request.scope["path"]),
        "request_id": get_request_id(),
        **({} if is_text else {"data": jsonable_encoder(error.detail)}),
        **getattr(error, "members", {}),
    }


def _validation_entry(entry: dict[str, Any]) -> dict[str, Any]:
    """Describe one mistake: its place (`in`, and within it a JSON pointer), its message and code.

    Pydantic's `input` and `ctx` are left out: they hold the sent value, maybe a password.
    """
    place, *path = entry["loc"]
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return {
        "in": place,
        "pointer": "".join(f"/{part}" for part in parts),
        "detail": entry["msg"],
        "code": entry["type"],
    }


def _wants_page(request: HTTPConnection) -> bool:
    path: str = request.scope["path"].removeprefix(root_path(request.scope))
    is_api = request.scope["type"] != "http" or path.startswith(("/api/", "/health/"))
    return not is_api and "text/html" in request.headers.get("accept", "")
