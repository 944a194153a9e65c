"""What endpoints ask for: `async def read_rooms(session: ReadSessionDep)`.

Tests override `get_session` and `get_read_session`.
"""

from collections.abc import AsyncIterator
from typing import Annotated

from anyio import CancelScope
from fastapi import Depends
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.database import async_session_maker, read_session_maker
from app.core.security import Principal, require_principal


async def get_session() -> AsyncIterator[AsyncSession]:
    """A session for one request; the endpoint commits, whatever it did not commit is undone."""
    session = async_session_maker()
    # Not `async with`: it closes in a task of its own, so that no cancellation stops it half-way.
    # A shield does the same, and spares each request the 50 µs of the task.
    try:
        yield session
    finally:
        with CancelScope(shield=True):
            await session.close()


async def get_read_session() -> AsyncIterator[AsyncSession]:
    """A session for one request that only reads, in autocommit; it refuses to write."""
    session = read_session_maker()
    try:
        yield session
    finally:
        with CancelScope(shield=True):
            await session.close()


# `scope="function"` gives the connection back before the response is sent, so that a slow client
# does not hold it.
SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]
ReadSessionDep = Annotated[AsyncSession, Depends(get_read_session, scope="function")]
PrincipalDep = Annotated[Principal, Depends(require_principal)]
