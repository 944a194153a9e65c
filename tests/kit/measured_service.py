"""The service that measures itself: `python -m kit.tests.measured_service`.

It has a route of each kind that an owner may open to strangers, beside those that are there.
"""

import asyncio
import time

import psutil  # type: ignore[import-untyped]
from fastapi import APIRouter, Request, UploadFile, WebSocket
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel

from app.main import app
from kit.commands import serve

MEASURE = "/measure"
DOORS = "/measure/doors"
OPEN_LIST = "/open/list"
OPEN_JSON = "/open/json"
OPEN_UPLOAD = "/open/upload"
OPEN_ECHO = "/open/echo"
UPLOAD_LIMIT = 3_000_000
BEAT_SECONDS = 0.005

router = APIRouter()


class Item(BaseModel):
    """One of a list."""

    name: str


class LongestTurn:
    """The most processor time that passed between two turns of the event loop.

    Processor time, since on a busy machine any turn may take long by the clock.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last = time.thread_time()

    def beat(self) -> None:
        """Measure, and again after a moment."""
        now = time.thread_time()
        self.seconds = max(self.seconds, now - self._last)
        self._last = now
        asyncio.get_running_loop().call_later(BEAT_SECONDS, self.beat)


_turn: list[LongestTurn] = []


@router.get(MEASURE)
async def measure() -> dict[str, float]:
    """What it holds in bytes, and the longest turn since the call before."""
    if not _turn:
        _turn.append(LongestTurn())
        _turn[0].beat()
    seconds, _turn[0].seconds = _turn[0].seconds, 0.0
    return {"memory": psutil.Process().memory_info().rss, "turn": seconds}


@router.get(DOORS)
async def list_doors() -> list[tuple[str, str]]:
    """Path and method of each route that takes a body: the API's, pages', those of extensions."""
    return sorted(
        (str(context.path), method)
        for context in iter_route_contexts(app.routes)
        for method in (getattr(context, "methods", None) or set()) & {"POST", "PUT", "PATCH"}
    )


@router.post(OPEN_LIST)
async def take_list(items: list[Item]) -> int:
    """Take a list, as an import does."""
    return len(items)


@router.post(OPEN_JSON)
async def take_json(request: Request) -> int:
    """Take any JSON, and answer with it."""
    return len(str(await request.json()))


@router.post(OPEN_UPLOAD, max_body_size=UPLOAD_LIMIT)
async def take_upload(file: UploadFile) -> int | None:
    """Take a file that is larger than other bodies may be."""
    return file.size


@router.websocket(OPEN_ECHO)
async def echo(socket: WebSocket) -> None:
    """Answer each message with itself."""
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


if __name__ == "__main__":
    serve.APPLICATION = "kit.tests.measured_service:app"
    serve.main([])
else:
    app.include_router(router)
