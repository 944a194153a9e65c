"""Limits how many requests one caller may send in a minute, over all processes of the API.

Each process counts in memory, and adds its count to Redis when a caller has sent a batch, in the
background: most callers never do, no request waits for Redis, and without it each process limits by
its own count. All processes together let through at most a tenth more than the limit.

The window slides: what was counted in the minute before fades as this one passes. Source:
https://blog.cloudflare.com/counting-things-a-lot-of-different-things/
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from http import HTTPStatus
from math import ceil
from typing import Any

from starlette.requests import HTTPConnection

from kit.context import client_address, client_network
from kit.errors import Problem
from kit.redis import redis_client, run_redis_call
from kit.settings import settings

WINDOW = 60
PAUSE = 10
"""Seconds: of the window, and without another try after Redis has failed."""

MOST_CALLERS = 65_536
"""Callers that a process counts in a window; beyond, it forgets the first, to bound memory."""

QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
"""Type of the problem; it and the headers are those of
https://www.ietf.org/archive/id/draft-ietf-httpapi-ratelimit-headers-10.txt
"""

logger = logging.getLogger(__name__)


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
            key = f"{settings.REDIS_KEY_PREFIX}rate-limit:{caller}:{window}"
            self._report = asyncio.create_task(self._send(key, count))

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

    async def _send(self, key: str, count: _Count) -> None:
        unknown = count.here - count.reported

        def add() -> int:
            pipeline = redis_client().pipeline()
            pipeline.incrby(key, unknown)
            pipeline.expire(key, 2 * WINDOW)
            return int(pipeline.execute()[0])

        try:
            total = await run_redis_call(add)
        except Exception as error:  # noqa: BLE001 (no request needs it)
            self._next_report = time.time() + PAUSE
            logger.warning("each process keeps the rate limit of /api by itself: %s", error)
        else:
            count.reported += unknown
            count.elsewhere = total - count.reported
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
