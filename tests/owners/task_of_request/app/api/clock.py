"""The database's clock."""

from datetime import datetime

from fastapi import APIRouter, BackgroundTasks
from sqlmodel import func, select

from app.core.dependencies import SessionDep

router = APIRouter(prefix="/clock", tags=["Clock"])


@router.get("")
async def read_clock(session: SessionDep, tasks: BackgroundTasks) -> datetime:
    """Read the clock, and once more after the answer, when the session is closed."""
    now: datetime = (await session.exec(select(func.now()))).one()
    tasks.add_task(session.exec, select(func.now()))
    return now
