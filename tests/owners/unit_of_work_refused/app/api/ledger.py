"""The ledger."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.dependencies import SessionDep

router = APIRouter(prefix="/ledger", tags=["Ledger"])


async def unit_of_work(session: SessionDep) -> AsyncIterator[AsyncSession]:
    """Commit when the endpoint has returned; an exception passes by the commit."""
    yield session
    await session.commit()


UnitOfWork = Annotated[AsyncSession, Depends(unit_of_work)]


@router.post("", status_code=201)
async def add_line(work: UnitOfWork) -> None:
    """Add a line to the ledger."""
    work.expunge_all()


