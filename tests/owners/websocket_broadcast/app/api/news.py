"""News, which reach every open WebSocket, whichever process holds it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated

import redis
from fastapi import APIRouter, Body, WebSocket, WebSocketDisconnect

from app.core.config import settings
from kit.redis import RedisPoolBusyError, redis_client, run_redis_call

logger = logging.getLogger(__name__)

CHANNEL = f"{settings.REDIS_KEY_PREFIX}news"
MOST_UNREAD = 100
"""Messages that wait for one reader; one that is further behind is disconnected."""

readers: set[asyncio.Queue[str]] = set()


@asynccontextmanager
async def listening(_: object) -> AsyncIterator[None]:
    """Listen for as long as the API runs."""
    async with asyncio.TaskGroup() as tasks:
        listener = tasks.create_task(listen())
        yield
        listener.cancel()


router = APIRouter(prefix="/news", tags=["News"], lifespan=listening)


async def listen() -> None:
    """Hand on what any process publishes; after an outage of Redis again."""
    while True:
        with redis_client().pubsub(ignore_subscribe_messages=True) as channel:
            try:
                await run_redis_call(lambda: channel.subscribe(CHANNEL))
                while True:
                    message = await run_redis_call(lambda: channel.get_message(timeout=1))
                    if message:
                        hand_on(message["data"])
            except (redis.RedisError, RedisPoolBusyError) as error:
                logger.warning("no news until Redis is back: %s", error)
        await asyncio.sleep(1)


def hand_on(text: str) -> None:
    """Put a message into each reader's queue."""
    for queue in [*readers]:
        if queue.full():
            readers.remove(queue)
        else:
            queue.put_nowait(text)


@router.post("", status_code=HTTPStatus.ACCEPTED)
async def publish_news(text: Annotated[str, Body(max_length=1000)]) -> None:
    """Publish news."""
    await run_redis_call(lambda: redis_client().publish(CHANNEL, text))


@router.websocket("/live")
async def read_news(socket: WebSocket) -> None:
    """Send news as they come, until the reader leaves."""
    await socket.accept()
    queue: asyncio.Queue[str] = asyncio.Queue(MOST_UNREAD)
    readers.add(queue)
    sending = asyncio.create_task(send_news(socket, queue))
    try:
        async for _ in socket.iter_text():
            pass
    finally:
        readers.discard(queue)
        sending.cancel()


async def send_news(socket: WebSocket, queue: asyncio.Queue[str]) -> None:
    """Send what is in a reader's queue, and end with one that has fallen behind."""
    try:
        while queue in readers:
            await socket.send_text(await queue.get())
        await socket.close(1013, "You have fallen behind: connect again.")
    except WebSocketDisconnect:
        pass
