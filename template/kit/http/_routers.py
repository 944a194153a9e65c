"""The routers: the kit's own for tasks, those of the service, and those of enabled extensions."""

from collections.abc import Iterable, Iterator
from copy import copy
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

from celery.result import AsyncResult
from fastapi import APIRouter, Depends, Request, Response, params
from fastapi.exceptions import DependencyScopeError
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts
from pydantic import BaseModel, Field
from pydantic_core import to_jsonable_python
from starlette._utils import get_route_path
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from kit.discovery import import_modules, last_line_in
from kit.extensions import ExtensionError, load_extensions
from kit.http._openapi_tags import extension_prefix
from kit.listing import list_queries, refuse_repeated
from kit.places import service
from kit.queue import enqueue, ping
from kit.redis import run_redis_call
from kit.security import Serves, require_principal, serve_anyone, serves
from kit.settings import StartupError

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
        "declared with `track_started=True`. Celery keeps no list of ids: an unknown task, or one "
        "whose result has expired, is PENDING too."
    )
    ready: bool = Field(description="Whether the task has ended, successfully or not.")
    result: Any = Field(
        None,
        description="The task's result, once it has succeeded. Bytes are URL-safe base64, decimals "
        "and moments are text, and a float that is no number is null.",
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
    task: AsyncResult[Any] = AsyncResult(str(task_id), app=service.celery_app)
    state = task.state
    # An ended task's result came with its state and is cached; `task.ready()` before the end would
    # ask Redis once more, and might contradict the state.
    ready = state in service.celery_app.backend.READY_STATES
    status = TaskStatus(id=task_id, state=state, ready=ready)
    if not ready:
        return status
    outcome = task.result
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
