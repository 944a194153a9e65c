"""What each layer adds to reading a row: microseconds of processor time, as one line of JSON.

The application is called in its own process, so a web server's part is in no figure. Layers are
taken in turn, `ROUNDS` times each; settings come from the environment.
"""

import asyncio
import gc
import json
import os
from collections.abc import Awaitable, Callable
from time import process_time
from typing import Any

import asyncpg
import uvloop
from app.core.database import async_session_maker, read_session_maker
from app.core.dependencies import ReadSessionDep
from app.extensions._example.models import ExampleNote, ExampleNoteOutput
from app.main import app
from fastapi import Depends
from kit.security import require_principal

ROUNDS = 5
CALLS = 400
AT_A_TIME = 4
COLUMNS = "title, body, id, word_count, created_at"
READ = f"SELECT {COLUMNS} FROM example_note WHERE id = $1"  # noqa: S608 (constants)

Call = Callable[[], Awaitable[Any]]


async def main() -> None:
    """Measure all layers and print them."""
    async with app.router.lifespan_context(app):
        note = ExampleNote(title="Shopping", body="milk, bread and a newspaper")
        async with async_session_maker() as session:
            session.add(note)
            await session.commit()
        add_routes(note)
        pool = await asyncpg.create_pool(
            os.environ["DATABASE_URL"], min_size=AT_A_TIME, max_size=AT_A_TIME
        )
        layers: dict[str, Call] = {
            "asyncpg's fetchrow": lambda: pool.fetchrow(READ, note.id),
            "a session's get": lambda: read(note.id),
            "health": lambda: get("/health/live"),
            "a route, its log line": lambda: get("/layers/route"),
            "a route, response model": lambda: get("/layers/model"),
            "a route, principal": lambda: get("/layers/principal"),
            "a route, session": lambda: get("/layers/session"),
            "all: the read endpoint": lambda: get(f"/api/example/notes/{note.id}"),
        }
        gc.freeze()
        samples: dict[str, list[float]] = {name: [] for name in layers}
        for number in range(1 + ROUNDS):
            for name, call in layers.items():
                taken = await microseconds(call)
                if number:
                    samples[name].append(taken)
        await pool.close()
    print(json.dumps(samples))


def add_routes(note: ExampleNote) -> None:
    """Routes that each do one thing more than the first."""

    @app.get("/layers/route")
    async def _route() -> dict[str, int]:
        return {"answer": 1}

    @app.get("/layers/model", response_model=ExampleNoteOutput)
    async def _model() -> ExampleNote:
        return note

    @app.get("/layers/principal", dependencies=[Depends(require_principal)])
    async def _principal() -> dict[str, int]:
        return {"answer": 1}

    @app.get("/layers/session")
    async def _session(session: ReadSessionDep) -> dict[str, int]:
        return {"answer": int(session.is_active)}


async def read(note_id: int | None) -> None:
    """What the endpoint does with its session."""
    async with read_session_maker() as session:
        await session.get(ExampleNote, note_id)


async def microseconds(call: Call) -> float:
    """Processor time of one call, of many, some of them at a time."""

    async def repeat() -> None:
        for _ in range(CALLS // AT_A_TIME):
            await call()

    started = process_time()
    await asyncio.gather(*(repeat() for _ in range(AT_A_TIME)))
    return 1e6 * (process_time() - started) / CALLS


async def get(path: str) -> None:
    """One request, as a server hands it on."""
    headers = [(b"host", b"test"), (b"authorization", f"Bearer {os.environ['TOKEN']}".encode())]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},
    }
    await app(scope, receive, send)


async def receive() -> dict[str, Any]:
    """An empty body."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: Any) -> None:  # noqa: ANN401 (ASGI's messages)
    """Refuse to measure what fails."""
    if message.get("status", 200) >= 400:  # noqa: PLR2004
        raise RuntimeError(message)


if __name__ == "__main__":
    uvloop.run(main())
