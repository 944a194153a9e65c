"""The lifespan of the API: the kit's steps before the first request and after the last."""

import gc
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from inspect import isasyncgenfunction, isgeneratorfunction, unwrap
from typing import Any, cast

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIWebSocketRoute, iter_route_contexts

from kit.connections import begin_process
from kit.database import load_models
from kit.discovery import place
from kit.messages import setup_message_handlers
from kit.migrations import init_db
from kit.places import service
from kit.security import ANONYMOUS_USERS, USERS, asks_who_calls, routes_and_callers
from kit.settings import StartupError, settings, unknown_settings

logger = logging.getLogger(__name__)


@asynccontextmanager
async def kit_lifespan() -> AsyncIterator[None]:
    """Prepare the database and the message handlers; close the database's connections at the end.

    Raises:
        StartupError: when the service cannot start; its message says what to fix.
    """
    settings.refuse_open_local()
    begin_process("api")
    service.load()
    for finding in unknown_settings():  # the service's own classes are known once it is loaded
        logger.warning("%s", finding)
    load_models()
    refuse_lasting_sessions()
    refuse_rows_of_others()
    # Sessions that are opened by hand: once closed, they are not opened again without a word.
    for maker in (service.async_session_maker, service.read_session_maker):
        maker.configure(close_resets_only=False)
    service.sync_session_maker.configure(close_resets_only=False)
    await init_db()
    setup_message_handlers()
    if not settings.is_local:
        # The objects that exist by now stay: the garbage collector need not walk all of them under
        # load. And a request makes thousands of objects that reference counts free without it.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000)
    yield
    await service.engine.dispose()
    service.sync_engine.dispose()


_OWN_SESSION = "use `open_session()` or `stream_rows()` of kit.database in its body"


def refuse_lasting_sessions() -> None:
    """Check that no route takes a session that lasts too long for it, or ends too early.

    Raises:
        StartupError: when one does; its message says which, and what to use instead.
    """
    module = service.module("core.dependencies")
    sessions = [getattr(module, name, None) for name in ("get_session", "get_read_session")]
    for route in iter_route_contexts(service.application.routes):
        dependant: Dependant | None = getattr(route, "dependant", None)
        scopes = {*_scopes(dependant, sessions)} if dependant else set()
        if not scopes:
            continue
        endpoint: Any = unwrap(cast("Callable[..., Any]", route.endpoint))
        if isinstance(route.original_route, APIWebSocketRoute):
            remedy, reason = _OWN_SESSION, "this one would hold a connection as long as it is open"
        elif isgeneratorfunction(endpoint) or isasyncgenfunction(endpoint):
            remedy, reason = _OWN_SESSION, "this one is closed before the first row is sent"
        elif scopes != {"function"}:
            remedy, reason = (
                "use `SessionDep`",
                "this one would hold a connection until a slow client has all",
            )
        else:
            continue
        raise StartupError(f"the session of {place_of(endpoint)}: {remedy}; {reason}.")


def refuse_rows_of_others() -> None:
    """Check that each route that serves users asks who calls, or says that its rows are shared.

    Raises:
        StartupError: when one does neither.
    """
    for route, policy in routes_and_callers(service.application):
        is_for_users = policy and not {USERS, ANONYMOUS_USERS}.isdisjoint(policy.kinds)
        if policy and is_for_users and not (policy.is_shared or asks_who_calls(route.dependant)):
            raise StartupError(
                f"{place_of(route.endpoint)} serves {policy} and never asks who calls: take "
                "`principal: PrincipalDep` and choose their rows, or say `serves(…, shared=True)` "
                "where everybody gets the same."
            )


def place_of(endpoint: Any) -> str:
    """The name of an endpoint's function, and its file and line."""
    function = unwrap(endpoint)
    code = getattr(function, "__code__", None)
    if code is None:
        return repr(endpoint)
    return f"`{function.__name__}` ({place(code.co_filename, code.co_firstlineno)})"


def _scopes(dependant: Dependant, sessions: list[Any]) -> Iterator[str | None]:
    """The scope of each session among the dependencies, and theirs."""
    for dependency in dependant.dependencies:
        if dependency.call in sessions:
            yield dependency.scope
        yield from _scopes(dependency, sessions)
