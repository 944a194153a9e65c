"""Starlette on a bare asyncpg pool: the same rows of the same table, the same JSON."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

COLUMNS = "title, body, id, word_count, created_at"
READ = f"SELECT {COLUMNS} FROM example_note WHERE id = $1"  # noqa: S608
CREATE = f"INSERT INTO example_note (title, body) VALUES ($1, $2) RETURNING {COLUMNS}"  # noqa: S608


async def read(request: Request) -> JSONResponse:
    """One note."""
    row = await request.app.state.pool.fetchrow(READ, int(request.path_params["note_id"]))
    return JSONResponse(dict(row) | {"created_at": row["created_at"].isoformat()})


async def create(request: Request) -> JSONResponse:
    """Write a note."""
    values = await request.json()
    row = await request.app.state.pool.fetchrow(CREATE, values["title"], values["body"])
    return JSONResponse(dict(row) | {"created_at": row["created_at"].isoformat()}, 201)


async def hello(_: Request) -> JSONResponse:
    """Say that the process serves."""
    return JSONResponse({"status": "alive"})


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Hold as many connections as the service does."""
    size = int(os.environ["POOL_SIZE"])
    # Behind a pooler in transaction mode prepared statements cannot be kept.
    cached = {} if os.environ["POOLER"] == "none" else {"statement_cache_size": 0}
    url = os.environ["DATABASE_URL"]
    async with asyncpg.create_pool(url, min_size=size, max_size=size, **cached) as pool:
        app.state.pool = pool
        yield


app = Starlette(
    routes=[
        Route("/hello", hello),
        Route("/notes/{note_id:int}", read),
        Route("/notes", create, methods=["POST"]),
    ],
    lifespan=lifespan,
)
