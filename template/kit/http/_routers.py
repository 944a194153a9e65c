"""The routers: health, the kit's own for tasks, those of the service, and of enabled extensions.

Requests may hold no number without an end and no JSON without a bottom. NaN and infinity, since
JSON has no word for them, and could not answer with one: `kit.conventions` does so for models. This
does it for parameters and bodies that are no model, such as `weight: float` or `list[float]`, and
validates tables as bodies, which SQLModel alone does not. It is done before the first route.

pydantic's parser reads some 200 levels in every version of Python. To find and describe half a
million mistakes takes seconds and 700 MB, so the number of values and that of mistakes are limited.

`/health/live` answers as long as the process serves requests; it is for supervisors that restart a
process. `/health/ready` also asks the database and Redis; it is for load balancers. Neither needs a
principal, so neither shows more than up or down.
"""

import asyncio
import logging
import signal
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from copy import copy
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import Any, Literal
from uuid import UUID

from anyio import CapacityLimiter, to_thread
from celery.states import ALL_STATES
from fastapi import APIRouter, Depends, Response, params
from fastapi._compat.v2 import ModelField
from fastapi.exceptions import DependencyScopeError
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts
from pydantic import BaseModel, Field, PydanticUserError, ValidationError
from pydantic_core import PydanticCustomError, from_json, to_jsonable_python
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlmodel import SQLModel
from starlette import formparsers
from starlette._utils import get_route_path
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.requests import Request
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from kit.causes import first_line
from kit.discovery import import_modules, last_line_in
from kit.errors import RETRY_AFTER_SECONDS, Problem
from kit.extensions import ExtensionError, load_extensions
from kit.http._openapi import extension_prefix
from kit.listing import list_queries, refuse_repeated
from kit.places import service
from kit.queue import enqueue, ping
from kit.redis import RedisPoolBusyError, redis_client, run_redis_call
from kit.security import Serves, require_principal, serve_anyone, serves
from kit.settings import StartupError, settings

logger = logging.getLogger(__name__)

BYTES_OF_A_VALUE = 16
"""A body may have one value for so many of the bytes that its route takes."""

FEW_VALUES = 1_000
"""Values, and descriptions of mistakes, that never cost much."""

_initialise = ModelField.__post_init__


def _initialise_finite(field: ModelField) -> None:
    is_free = field.mode == "validation" and field.config is None
    try:
        field.config = {"allow_inf_nan": False} if is_free else field.config
        _initialise(field)
    except PydanticUserError:
        if not is_free:
            raise
        field.config = None  # a model has its own
        _initialise(field)
    adapter: Any = field._type_adapter  # noqa: SLF001
    validate = adapter.validate_python
    model: Any = field.field_info.annotation
    is_model = isinstance(model, type) and issubclass(model, SQLModel)
    if field.mode == "validation" and is_model and hasattr(model, "__table__"):
        validate = model.model_validate  # pydantic alone makes the row, with whatever is sent

    def validate_briefly(value: Any, **options: Any) -> Any:
        try:
            return validate(value, **options)
        except ValidationError as error:
            if (count := error.error_count()) <= FEW_VALUES:
                raise
            kind = PydanticCustomError("too_many_mistakes", f"{count} values are wrong")
            entry: Any = {"type": kind}
            raise ValidationError.from_exception_data(error.title, [entry]) from None

    adapter.validate_python = validate_briefly


# FastAPI hands no configuration to the types of parameters.
ModelField.__post_init__ = _initialise_finite  # type: ignore[assignment,method-assign]


class MalformedJSONError(Problem, ValueError):
    """A body is no JSON, or too deep; a `ValueError` as that of Python's parser."""


async def _parse_json(request: Any) -> Any:
    if not hasattr(request, "_json"):
        body = await request.body()
        size = request.scope.get(MAX_BODY_SIZE_SCOPE_KEY, settings.API_MAX_BODY_SIZE)
        most = max(FEW_VALUES, size // BYTES_OF_A_VALUE)
        if body.count(b",") > most:
            raise Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"Send at most {most:,} values, or commas, to this address.",
            )
        try:
            request._json = from_json(body.removeprefix(BOM_UTF8))  # noqa: SLF001
        except ValueError as error:
            entry = {"in": "body", "pointer": "", "detail": str(error), "code": "json_invalid"}
            # Without the body, which the error of Python's own parser keeps.
            raise MalformedJSONError(
                HTTPStatus.UNPROCESSABLE_ENTITY, "The body is not valid JSON.", errors=[entry]
            ) from None
    return request._json  # noqa: SLF001


def _decode(text: bytes | bytearray, encoding: str) -> str:
    try:
        return text.decode(encoding)
    except (ValueError, LookupError):  # Starlette's own misses the errors of a few encodings
        return text.decode("latin-1")


Request.json = _parse_json  # type: ignore[assignment,method-assign]
formparsers._user_safe_decode = _decode  # type: ignore[assignment]  # noqa: SLF001


HEALTH_TIMEOUT_SECONDS = 2.0
"""Timeout of one check; probes themselves time out after a few seconds."""
WORKS = "works again"
HEALTH_CACHE_SECONDS = 1.0
"""How long a check's result is cached, so that many probes cost as much as one."""

_redis_thread = CapacityLimiter(1)

_is_stopping = asyncio.Event()


@asynccontextmanager
async def _drain_before_the_end(_: Any) -> AsyncIterator[None]:
    """From SIGTERM on be ready no more, and end `API_DRAIN_SECONDS` later; a second one ends it.

    So a balancer that asks whether this process is ready sends requests elsewhere before it ends.
    """
    end = signal.getsignal(signal.SIGTERM)  # uvicorn's
    if settings.API_DRAIN_SECONDS and callable(end):
        loop = asyncio.get_running_loop()

        def drain(*received: Any) -> None:
            signal.signal(signal.SIGTERM, end)
            loop.call_soon_threadsafe(_is_stopping.set)
            loop.call_soon_threadsafe(loop.call_later, settings.API_DRAIN_SECONDS, end, *received)

        signal.signal(signal.SIGTERM, drain)
    yield


health_router = APIRouter(prefix="/health", tags=["Health"], lifespan=_drain_before_the_end)


class DependencyHealth(BaseModel):
    """The state of one server that the service needs."""

    state: Literal["up", "down"]
    reason: Literal["timeout", "busy", "unreachable", "read-only"] | None = Field(
        None, description="Why it is down; busy: every connection of this process is in use."
    )
    latency_ms: float | None = Field(None, description="Time that the check took, in milliseconds.")


class Alive(BaseModel):
    """The process serves requests."""

    status: Literal["alive"] = "alive"


_ALIVE = Alive().model_dump_json()


class Ready(BaseModel):
    """All servers that the service needs are up."""

    status: Literal["ready"] = "ready"
    checks: dict[str, DependencyHealth]


class HealthCheck:
    """The check of one dependency: at most one runs at a time, its result is cached for a second.

    A probe that arrives while a check runs waits for that one, but not longer than the timeout. So
    probes hold at most one connection, even when no answer comes.

    Args:
        ping: returns when the dependency has answered; has to end by itself when it does not.
    """

    def __init__(self, ping: Callable[[], Awaitable[None]]) -> None:
        self._ping = ping
        self._running: asyncio.Task[DependencyHealth] | None = None
        self._latest: DependencyHealth | None = None
        self._said = WORKS
        self._checked_at = 0.0

    async def health(self) -> DependencyHealth:
        """Return the state, at most `HEALTH_CACHE_SECONDS` old, within `HEALTH_TIMEOUT_SECONDS`."""
        if self._latest and monotonic() - self._checked_at < HEALTH_CACHE_SECONDS:
            return self._latest
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._check())
        await asyncio.wait({self._running}, timeout=HEALTH_TIMEOUT_SECONDS)
        if not self._running.done():
            return DependencyHealth(state="down", reason="timeout")
        return self._running.result()

    async def _check(self) -> DependencyHealth:
        started, said = monotonic(), WORKS
        try:
            await self._ping()
        except Exception as error:  # noqa: BLE001 (after any error, the dependency counts as down)
            reason = next(_REASONS[kind] for kind in type(error).__mro__ if kind in _REASONS)
            result = DependencyHealth(state="down", reason=reason)
            said = f"{type(error).__name__}: {first_line(error)}"
        else:
            milliseconds = round((monotonic() - started) * 1000, 1)
            result = DependencyHealth(state="up", latency_ms=milliseconds)
        # Where a balancer sends no requests meanwhile, no other line says why.
        if said != self._said:
            logger.warning("%s: %s", self._ping.__name__, said)
            self._said = said
        self._latest, self._checked_at = result, monotonic()
        return result


class ReadOnlyError(Exception):
    """The database takes no writes, though it answers."""


_REASONS: Mapping[type, Any] = {
    PoolTimeoutError: "busy",
    RedisPoolBusyError: "busy",
    ReadOnlyError: "read-only",
    TimeoutError: "timeout",
    Exception: "unreachable",
}


async def ping_database() -> None:
    """Ask the database on one of the pool's connections, so that probes add none.

    Raises:
        ReadOnlyError: when it is read-only: a standby, or Supabase's answer to a full disk.
    """
    async with asyncio.timeout(HEALTH_TIMEOUT_SECONDS), service.engine.connect() as connection:
        if await connection.scalar(text("SHOW transaction_read_only")) == "on":
            await connection.invalidate()  # after a failover, others lead to the new primary
            raise ReadOnlyError


async def ping_redis() -> None:
    """Ping Redis on one of the pool's connections.

    A thread cannot be cancelled: it ends with the pool's and the socket's timeouts. Until then it
    is the only one, see `HealthCheck`, and it is not from the threads that sync endpoints share.
    """
    await to_thread.run_sync(redis_client().ping, limiter=_redis_thread)


checks = {"database": HealthCheck(ping_database), "redis": HealthCheck(ping_redis)}


@health_router.head("/live", include_in_schema=False)
@health_router.get("/live", response_model=Alive)
async def read_liveness() -> Response:
    """Whether the process serves requests."""
    headers = {"Cache-Control": "no-store"}
    return Response(_ALIVE, media_type="application/json", headers=headers)


@health_router.head("/ready", include_in_schema=False)
@health_router.get("/ready")
async def read_readiness(response: Response) -> Ready:
    """Whether database and Redis answer; 503 with the same `checks` when one does not.

    503 as well while the process is about to end.
    """
    again = {"Retry-After": str(RETRY_AFTER_SECONDS), "Cache-Control": "no-store"}
    if _is_stopping.is_set():
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE, "This process is about to end.", headers=again
        )
    results = await asyncio.gather(*(check.health() for check in checks.values()))
    states = dict(zip(checks, results, strict=True))
    if any(result.state == "down" for result in results):
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "A server that this service needs does not answer.",
            headers=again,
            checks={name: state.model_dump() for name, state in states.items()},
        )
    response.headers["Cache-Control"] = "no-store"
    return Ready(checks=states)


_PROTECTED = [Depends(require_principal), Depends(refuse_repeated)]
_PUBLIC = [Depends(serve_anyone), Depends(refuse_repeated)]

tasks_router = APIRouter(prefix="/tasks", tags=["Tasks"], dependencies=[serves(scope="tasks")])


class PingRequest(BaseModel):
    """The message that the task is to return."""

    message: str = Field("ping", max_length=200)


class TaskAccepted(BaseModel):
    """The queue has the task; a worker will run it."""

    id: UUID
    status_url: str = Field(description="Path of the task's state and result, also in `Location`.")


class TaskError(BaseModel):
    """Why a task failed."""

    type: str
    message: str


class TaskStatus(BaseModel):
    """The state of a task, and its result or error."""

    id: UUID
    state: str = Field(
        description="PENDING, RETRY, SUCCESS, FAILURE or REVOKED; STARTED too, of a task that is "
        "declared with `track_started=True`, and one that the task itself has set. Celery keeps no "
        "list of ids: an unknown task, or one whose result has expired, is PENDING too."
    )
    ready: bool = Field(description="Whether the task has ended, successfully or not.")
    result: Any = Field(
        None,
        description="The task's result, once it has succeeded; before, the `meta` of a state that "
        "the task has set. Bytes are URL-safe base64, decimals and moments are text, and a float "
        "that is no number is null.",
    )
    error: TaskError | None = Field(None, description="Why it failed, once it has.")


@tasks_router.post("/ping", status_code=HTTPStatus.ACCEPTED)
async def send_ping(body: PingRequest, request: Request, response: Response) -> TaskAccepted:
    """Send a task that returns a message, to check that queue and worker run."""
    task = await enqueue(ping, body.message)
    status_url = request.url_for("read_task", task_id=task.id).path
    response.headers["Location"] = status_url
    return TaskAccepted(id=UUID(task.id), status_url=status_url)


@tasks_router.get("/{task_id}")
async def read_task(task_id: UUID) -> TaskStatus:
    """Read a task's state and result, which is kept for `CELERY_RESULT_EXPIRES` seconds.

    The id is random and the only key: whoever has it, and the scope `tasks`, may read the result.
    """
    return await run_redis_call(lambda: _status(task_id))


def _status(task_id: UUID) -> TaskStatus:
    backend = service.celery_app.backend
    # Read once: an `AsyncResult` would ask again before the end, and might contradict the state.
    meta = backend.get_task_meta(str(task_id))
    state, outcome = meta["status"], meta["result"]
    status = TaskStatus(id=task_id, state=state, ready=state in backend.READY_STATES)
    if not status.ready and state in ALL_STATES:  # of Celery's own: RETRY has an error, for one
        return status
    if isinstance(outcome, BaseException):
        # Celery wraps an exception that cannot be made again, as one with keyword arguments.
        name = getattr(outcome, "exc_cls_name", type(outcome).__name__)
        message = str(outcome).encode(errors="replace").decode()  # no half of a surrogate pair
        status.error = TaskError(type=name, message=message)
    else:
        status.result = to_jsonable_python(outcome, bytes_mode="base64")
    return status


def build_api_router(package: str) -> APIRouter:
    """Build the router of everything below `/api`; all but each `public_router` needs a principal.

    Args:
        package: its modules that define `router` or `public_router` are included, but for `pages`
            and for routers that another one includes. So are those of an extension's `api`.

    Raises:
        ExtensionError: when an enabled extension has an `api` without a router.
        StartupError: when a dependency of request scope uses a session.
    """
    router = APIRouter(prefix="/api")
    router.include_router(tasks_router, dependencies=_PROTECTED)
    modules = _import_modules(package)
    taken = [*_included(found for module in modules for found, _ in _routers_of(module))]
    for module in modules:
        _include(router, module, taken)
    for extension, module in load_extensions("api"):
        if not isinstance(getattr(module, "router", None), APIRouter):
            raise ExtensionError(
                f"extension {extension!r} is broken: {module.__file__} defines no `router`. "
                "Add `router = APIRouter()`."
            )
        inner = _import_modules(module.__name__) if hasattr(module, "__path__") else []
        taken += _included(found for each in (module, *inner) for found, _ in _routers_of(each))
        for each in (module, *inner):
            _include(router, each, taken, extension_prefix(extension))
    return router


def _import_modules(package: str) -> list[ModuleType]:
    try:
        return import_modules(package, but=("pages",))
    except StartupError as error:
        if not isinstance(cause := error.__cause__, DependencyScopeError):
            raise
        place = last_line_in(Path(str(import_module(package).__file__)).parent, cause)
        raise StartupError(
            f'write `Depends(…, scope="function")` in {place}: {cause} It would end after the '
            "response is sent, when a failed commit could not be reported."
        ) from None


def _routers_of(module: ModuleType) -> Iterator[tuple[APIRouter, list[params.Depends]]]:
    for name, dependencies in (("router", _PROTECTED), ("public_router", _PUBLIC)):
        if isinstance(found := getattr(module, name, None), APIRouter):
            yield found, dependencies


def _included(routers: Iterable[APIRouter]) -> Iterator[APIRouter]:
    """The routers that others include by themselves, as a package does with its modules'."""
    for router in routers:
        routes = router.routes
        inner = [each for route in routes if (each := getattr(route, "original_router", None))]
        yield from inner
        yield from _included(inner)


def _include(
    router: APIRouter, module: ModuleType, taken: list[APIRouter], prefix: str = ""
) -> None:
    for found, dependencies in _routers_of(module):
        if dependencies is _PROTECTED:
            _refuse_what_has_no_dependencies(found, module)
        if not any(found is each for each in taken):
            taken.append(found)
            router.include_router(found, prefix=prefix, dependencies=dependencies)


def _refuse_what_has_no_dependencies(router: APIRouter, module: ModuleType) -> None:
    for route in iter_route_contexts(router.routes):
        if getattr(route, "dependant", None) is None:
            raise StartupError(
                f"{module.__file__}: make {route.path!r} a route of FastAPI's, or mount it outside "
                "of /api in app/main.py: no dependency reaches a mounted application or what "
                "`add_route` adds, so it would serve anyone."
            )


def build_extension_pages_router() -> APIRouter:
    """Build the router of the extensions' pages: each `page_router`, below `/<name>`."""
    router = APIRouter()
    for extension, module in load_extensions("api"):
        if hasattr(module, "page_router"):
            router.include_router(module.page_router, prefix=extension_prefix(extension))
    return router


_SEGMENTS = 3
"""Of a path, by which its routes are found: `/api/<extension>/<name>`."""

_KINDS = (APIRoute, APIWebSocketRoute, Mount, Route, WebSocketRoute)
_BY_PATH = {kind.matches for kind in _KINDS}


def index_routes(router: APIRouter) -> None:
    """Have a router find its routes by how their paths begin, not by trying one after the other.

    FastAPI searches each included router in turn, and the one that matches twice; here its routes
    become the router's own (https://github.com/fastapi/fastapi/pull/16159 mends a part of that).
    What is added to it later is found as well; not what is added to a router that it has included.
    """
    router.routes[:] = [flat for route in router.routes for flat in _flat(route)]
    if router.middleware_stack == router.app:
        router.middleware_stack = _RouteIndex(router)


def _flat(route: Any) -> Iterator[Any]:
    """A route; in place of an included router its routes, with what their routers add to them."""
    router = getattr(route, "original_router", None)
    if type(router) is not APIRouter or any(
        # FastAPI sets limits as it enters a router, and searches a frontend's files last.
        getattr(each, name, None)
        for each in (router, route.include_context)
        for name in ("form_limits", "max_body_size", "_low_priority_routes")
    ):
        yield route
        return
    for each in route.effective_candidates():
        if hasattr(each, "original_router"):
            yield from _flat(each)
        elif each.starlette_route is not None:
            yield each.starlette_route
        else:
            flat = copy(each.original_route)
            vars(flat).update((key, getattr(each, key)) for key in vars(flat).keys() & vars(each))
            _drop_idle_dependencies(flat)
            yield flat


def _drop_idle_dependencies(route: APIRoute) -> None:
    """Have requests solve no dependency that does nothing for this route; others still see all."""
    served = route.dependant  # the one that the route's handler has
    route.dependant = copy(served)
    is_list = any(list_queries(served))
    is_asked = any(each.call is require_principal for each in served.dependencies)
    served.dependencies = [
        each
        for each in served.dependencies
        if (is_list or each.call is not refuse_repeated)
        and not (is_asked and each.name is None and isinstance(each.call, Serves))
    ]


class _RouteIndex:
    """Serves each request by a copy of the router with those routes alone that its path can match.

    The copy searches them as FastAPI does: their order, 405 and redirects are FastAPI's own.
    """

    def __init__(self, router: APIRouter) -> None:
        self._router = router
        self._indexed: tuple[Any, int] = (None, 0)
        self._copies: dict[tuple[str, ...], APIRouter] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._router.app(scope, receive, send)
        routes, (indexed, count) = self._router.routes, self._indexed
        # Compared as lists, routes with other dependencies would be equal.
        if routes is not indexed or len(routes) != count:
            self._index(routes)
        scope.setdefault("router", self._router)
        # A redirect adds or takes slashes, and a pattern ends before a line's end.
        start = get_route_path(scope).rstrip("/\n").split("/", _SEGMENTS + 1)[1 : _SEGMENTS + 1]
        while (found := self._copies.get(tuple(start))) is None:
            start.pop()
        return await found.app(scope, receive, send)

    def _index(self, routes: list[BaseRoute]) -> None:
        starts = [(_start(route), route) for route in routes]
        self._indexed, self._copies = (routes, len(routes)), {}
        for start in {(), *(start for start, _ in starts)}:
            self._copies[start] = found = copy(self._router)
            found.routes = [route for other, route in starts if start[: len(other)] == other]


def _start(route: Any) -> tuple[str, ...]:
    """The first whole segments of every path that a route can match, without a parameter."""
    if type(route).matches not in _BY_PATH:
        return ()  # a host, or a class of its owner's
    literal, parameter, _ = route.path.partition("{")
    whole = literal.rpartition("/")[0] if parameter else literal
    return tuple(whole.rstrip("/").split("/")[1 : _SEGMENTS + 1])
