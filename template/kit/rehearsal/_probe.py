"""The service's API, with a count of how long it holds connections of its pools.

Each process writes to a file of its own, `held-<pid>` in the folder `REHEARSAL_FOLDER`, that the
rehearsal reads: the seconds of `HELD`, so far.
"""

import mmap
import os
import threading
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio.to_thread
from sqlalchemy import Engine, event

from kit.places import service
from kit.redis import redis_client

HELD = ("database", "sync_database", "redis", "threads")


class _Held:
    def __init__(self, folder: Path) -> None:
        path = folder / f"held-{os.getpid()}"
        path.write_bytes(bytes(8 * len(HELD)))
        with path.open("r+b") as file:
            self._seconds = memoryview(mmap.mmap(file.fileno(), 0)).cast("d")
        self._lock = threading.Lock()
        self._since: dict[int, float] = {}

    def begin(self, connection: object) -> None:
        self._since[id(connection)] = perf_counter()

    def end(self, pool: int, connection: object) -> None:
        with self._lock:
            began = self._since.pop(id(connection), None)
            self._seconds[pool] += 0 if began is None else perf_counter() - began

    def watch_engine(self, pool: int, engine: Engine) -> None:
        event.listen(engine, "checkout", lambda _, record, __: self.begin(record))
        event.listen(engine, "checkin", lambda _, record: self.end(pool, record))

    def watch_redis(self, pool: Any) -> None:
        take, give = pool.get_connection, pool.release

        def get_connection(*arguments: Any, **options: Any) -> Any:
            connection = take(*arguments, **options)
            self.begin(connection)
            return connection

        def release(connection: Any) -> None:
            self.end(HELD.index("redis"), connection)
            give(connection)

        pool.get_connection, pool.release = get_connection, release

    def watch_threads(self) -> None:
        run = anyio.to_thread.run_sync

        async def run_sync(*arguments: Any, limiter: Any = None, **options: Any) -> Any:
            if limiter:  # not the threads that sync endpoints share
                return await run(*arguments, limiter=limiter, **options)
            self.begin(call := object())
            try:
                return await run(*arguments, **options)
            finally:
                self.end(HELD.index("threads"), call)

        anyio.to_thread.run_sync = run_sync  # type: ignore[assignment]


app = service.application
if _folder := os.environ.get("REHEARSAL_FOLDER"):  # nothing changes for others who import it
    _held = _Held(Path(_folder))
    _held.watch_engine(HELD.index("database"), service.engine.sync_engine)
    _held.watch_engine(HELD.index("sync_database"), service.sync_engine)
    _held.watch_redis(redis_client().connection_pool)
    _held.watch_threads()
