"""How busy this process's pools of connections are, counted since it started."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter


@dataclass
class PoolUse:
    """What callers of one pool met with."""

    waits: int = 0
    """Callers that found every connection in use."""
    wait_seconds: float = 0
    """Time that they waited, all together."""
    timeouts: int = 0
    """Those that got none in time."""
    refusals: int = 0
    """Connections that the server or its pooler refused, since it had none left."""

    @contextmanager
    def waiting(self, timeout: type[Exception]) -> Iterator[None]:
        """Count a caller that waits within, and `timeout` if that is how its wait ends."""
        began = perf_counter()
        try:
            yield
        except timeout:
            self.timeouts += 1
            raise
        finally:
            self.waits += 1
            self.wait_seconds += perf_counter() - began


pool_use = {pool: PoolUse() for pool in ("asyncpg", "psycopg2", "redis")}
"""By pool: `asyncpg` is that of requests, `psycopg2` that of the admin and of tasks."""
