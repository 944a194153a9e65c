"""Routes of transfers."""

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel
from sqlmodel import func, select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.transfer import Transfer

router = APIRouter(prefix="/transfers", tags=["Transfers"])


class NewTransfer(BaseModel):
    """What a client sends."""

    amount: int


@router.post("")
async def create_transfer(new: NewTransfer, session: SessionDep) -> dict[str, int]:
    """Store a transfer, or nothing of it."""
    async with session.begin():
        session.add(Transfer(amount=new.amount))
        await session.flush()
        if new.amount < 0:
            raise HTTPException(400, "Only forward.")
    return {"stored": (await session.exec(select(func.count()).select_from(Transfer))).one()}


@router.get("")
async def count_transfers(session: ReadSessionDep) -> dict[str, int]:
    """Count the transfers."""
    return {"stored": (await session.exec(select(func.count()).select_from(Transfer))).one()}
