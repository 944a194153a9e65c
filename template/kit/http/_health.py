"""Health checks: liveness of the process, and readiness of the database and Redis.

`/health/live` answers as long as the process serves requests; it is for supervisors that restart a
process. `/health/ready` also asks the database and Redis; it is for load balancers. Neither needs a
principal, so neither shows more than up or down.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from time import monotonic
from typing import Any, Literal

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from kit.errors import RETRY_AFTER_SECONDS, Problem
from kit.places import service
from kit.redis import RedisPoolBusyError, redis_client
from kit.settings import settings

TIMEOUT_SECONDS = 2.0
"""Timeout of one check; probes themselves time out after a few seconds."""
CACHE_SECONDS = 1.0
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


router = APIRouter(prefix="/health", tags=["Health"], lifespan=_drain_before_the_end)


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
        self._checked_at = 0.0

    async def health(self) -> DependencyHealth:
        """Return the state, at most `CACHE_SECONDS` old, within `TIMEOUT_SECONDS`."""
        if self._latest and monotonic() - self._checked_at < CACHE_SECONDS:
            return self._latest
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._check())
        await asyncio.wait({self._running}, timeout=TIMEOUT_SECONDS)
        if not self._running.done():
            return DependencyHealth(state="down", reason="timeout")
        return self._running.result()

    async def _check(self) -> DependencyHealth:
        started = monotonic()
        try:
            await self._ping()
        except (PoolTimeoutError, RedisPoolBusyError):
            result = DependencyHealth(state="down", reason="busy")
        except ReadOnlyError:
            result = DependencyHealth(state="down", reason="read-only")
        except TimeoutError:
            result = DependencyHealth(state="down", reason="timeout")
        except Exception:  # noqa: BLE001 (after any error, the dependency counts as down)
            result = DependencyHealth(state="down", reason="unreachable")
        else:
            milliseconds = round((monotonic() - started) * 1000, 1)
            result = DependencyHealth(state="up", latency_ms=milliseconds)
        self._latest, self._checked_at = result, monotonic()
        return result


class ReadOnlyError(Exception):
    """The database takes no writes, though it answers."""


async def ping_database() -> None:
    """Ask the database on one of the pool's connections, so that probes add none.

    Raises:
        ReadOnlyError: when it is read-only: a standby, or Supabase's answer to a full disk.
    """
    async with asyncio.timeout(TIMEOUT_SECONDS), service.engine.connect() as connection:
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


@router.head("/live", include_in_schema=False)
@router.get("/live", response_model=Alive)
async def read_liveness() -> Response:
    """Whether the process serves requests."""
    headers = {"Cache-Control": "no-store"}
    return Response(_ALIVE, media_type="application/json", headers=headers)


@router.head("/ready", include_in_schema=False)
@router.get("/ready")
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
