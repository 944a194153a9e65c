"""Counts the instructions of requests, with callgrind, of which this is called.

Prints the names of what was counted, as one line of JSON; callgrind writes a file for each. The
service is in production's settings, on servers of its own; floors are those of the benchmark.
"""

import asyncio
import gc
import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from kit.devservices import temporary_servers

CALLS = 20
NOTE = json.dumps({"title": "Shopping", "body": "milk, bread and a newspaper"}).encode()
Call = Callable[[], Awaitable[None]]


def main(*folders: str) -> None:
    """Start the servers, and count.

    Args:
        folders: those of the benchmark's floors, and of its endpoints.
    """
    sys.path += folders
    with temporary_servers() as addresses:
        url = f"{addresses.postgres.url}/postgres"
        os.environ |= {
            "ENVIRONMENT": "production",
            "SECRET_KEY": secrets.token_urlsafe(32),
            "CORS_ORIGINS": "https://app.example.com",
            "ENABLED_EXTENSIONS": "_example",
            "DATABASE_URL": url,
            "POSTGRES_SSLMODE": "disable",
            "POSTGRES_POOLER": "none",
            "REDIS_URL": addresses.redis.url,
            "FLOWER_PASSWORD": secrets.token_urlsafe(12),
            "API_RATE_LIMIT": "1000000",
            "POOLER": "none",
        }
        run = partial(subprocess.run, check=True, capture_output=True, text=True)
        run([sys.executable, "-m", "alembic", "upgrade", "heads"])
        made = run([sys.executable, "-m", "kit.commands.token", "create", "counted", "--scopes=*"])
        asyncio.run(count(url, made.stdout.split()[-1]))


async def count(url: str, token: str) -> None:
    """Make each call often, and have callgrind write what it took."""
    import asyncpg  # noqa: PLC0415 (the settings are there by now)
    import asyncpg_tasks  # noqa: PLC0415
    import measured_notes  # noqa: PLC0415
    from app.main import app  # noqa: PLC0415
    from fastapi import Depends  # noqa: PLC0415
    from kit.security import require_principal  # noqa: PLC0415

    # One idle thread beside the event loop, as a service has: locks cost more with two than alone.
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    floor, known = asyncpg_tasks.app, Depends(require_principal)
    app.include_router(measured_notes.router, prefix="/api", dependencies=[known])
    async with (
        app.router.lifespan_context(app),
        asyncpg.create_pool(url, min_size=2, max_size=2) as pool,
    ):
        floor.state.pool = pool
        service = partial(request, app, f"Bearer {token}")
        notes, own = "/api/example/notes", "/api/measured"
        await service("POST", notes, NOTE)()
        calls: dict[str, Call] = {
            "warming up": service("GET", "/health/live"),
            "floor: hello": request(floor, "", "GET", "/hello"),
            "floor: read": request(floor, "", "GET", "/notes/1"),
            "floor: create": request(floor, "", "POST", "/notes", NOTE),
            "floor: send": request(floor, "", "POST", "/notes/sending", NOTE),
            "health": service("GET", "/health/live"),
            "404": service("GET", "/api/example/nothing"),
            "read": service("GET", f"{notes}/1"),
            "read with a session": service("GET", f"{own}/session/1"),
            "create": service("POST", own, NOTE),
            "create with a session": service("POST", f"{own}/session", NOTE),
            "create and send": service("POST", f"{own}/sending", NOTE),
            "create with a session and send": service("POST", notes, NOTE),
        }
        for call in calls.values():
            for _ in range(3):
                await call()
        gc.freeze()
        gc.disable()
        run = partial(subprocess.run, check=True, capture_output=True)
        run(["callgrind_control", "--instr=on", str(os.getpid())])
        for call in calls.values():
            await call()
            os.getloadavg()  # on which callgrind begins to count
            for _ in range(CALLS):
                await call()
            os.getpriority(os.PRIO_PROCESS, 0)  # on which it writes what it has counted
        run(["callgrind_control", "--instr=off", str(os.getpid())])
    print(json.dumps([*calls]), flush=True)


def request(app: Any, authorization: str, method: str, path: str, body: bytes = b"") -> Call:  # noqa: ANN401
    """One request, as a server hands it on; an error of the server is raised."""
    headers = [(b"host", b"test"), (b"content-type", b"application/json")]
    headers.append((b"content-length", str(len(body)).encode()))
    if authorization:
        headers.append((b"authorization", authorization.encode()))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:  # noqa: ANN401
        if message.get("status", 200) not in (200, 201, 404):
            raise RuntimeError(message)

    async def call() -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": list(headers),
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "state": {},
        }
        await app(scope, receive, send)

    return call


if __name__ == "__main__":
    main(*sys.argv[1:])
