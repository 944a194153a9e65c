"""Dependencies of endpoints: `async def read_rooms(session: ReadSessionDep)`.

Tests override `get_session` and `get_read_session`.
"""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.database import async_session_maker, read_session_maker
from kit.database import request_session
from kit.security import Principal, require_principal


async def get_session() -> AsyncIterator[AsyncSession]:
    """Open a session for one request; the endpoint commits, anything else is rolled back."""
    async with request_session(async_session_maker) as session:
        yield session


async def get_read_session() -> AsyncIterator[AsyncSession]:
    """Open a session for one request that only reads, in autocommit; it refuses to write."""
    async with request_session(read_session_maker) as session:
        yield session


# `scope="function"` returns the connection to the pool before the response is sent, so that a slow
# client does not hold it.
SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]
ReadSessionDep = Annotated[AsyncSession, Depends(get_read_session, scope="function")]
PrincipalDep = Annotated[Principal, Depends(require_principal)]
