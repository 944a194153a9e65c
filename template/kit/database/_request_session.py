"""A session for one request."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from anyio import CancelScope
from sqlmodel.ext.asyncio.session import AsyncSession


@asynccontextmanager
async def request_session(maker: Callable[[], AsyncSession]) -> AsyncIterator[AsyncSession]:
    """Open a session, and close it whatever becomes of the request.

    Not `async with maker()`: that closes in a task of its own, so that no cancellation stops it
    half-way. A shield does the same, and spares each request the 50 µs of the task.
    """
    session = maker()
    try:
        yield session
    finally:
        with CancelScope(shield=True):
            await session.close()
