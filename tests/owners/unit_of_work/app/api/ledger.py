"""The ledger."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.ledger_line import LedgerLine

router = APIRouter(prefix="/ledger", tags=["Ledger"])


async def unit_of_work(session: SessionDep) -> AsyncIterator[AsyncSession]:
    """Commit when the endpoint has returned; an exception passes by the commit."""
    yield session
    await session.commit()


UnitOfWork = Annotated[AsyncSession, Depends(unit_of_work, scope="function")]


@router.post("", status_code=201)
async def add_line(line: LedgerLine, work: UnitOfWork) -> None:
    """Add a line to the ledger."""
    work.add(line)


@router.get("")
async def list_lines(session: ReadSessionDep) -> Sequence[LedgerLine]:
    """List the lines."""
    return (await session.exec(select(LedgerLine))).all()
