"""The floor that reads and creates notes, which also has Celery count the words of a new one."""

from asyncpg_notes import app, create
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from stock_celery import ping


async def create_and_send(request: Request) -> JSONResponse:
    """Write a note, then send a task."""
    answer = await create(request)
    await run_in_threadpool(ping.delay, "a new note")
    return answer


app.router.routes.append(Route("/notes/sending", create_and_send, methods=["POST"]))
