"""The warehouse: a second database, with an engine and a session of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.config import settings

warehouse_engine = create_async_engine(
    settings.DATABASE_URL,
    connect_args={
        **settings.database_connect_args,
        "server_settings": {"application_name": "warehouse"},
    },
    pool_size=1,
    max_overflow=0,
    pool_timeout=settings.POSTGRES_POOL_TIMEOUT,
)
warehouse_session_maker = async_sessionmaker(warehouse_engine, class_=AsyncSession)


@asynccontextmanager
async def warehouse_lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Close the connections at the end."""
    yield
    await warehouse_engine.dispose()


async def get_warehouse_session() -> AsyncIterator[AsyncSession]:
    """Open a session for one request."""
    async with warehouse_session_maker() as session:
        yield session


WarehouseDep = Annotated[AsyncSession, Depends(get_warehouse_session, scope="function")]
