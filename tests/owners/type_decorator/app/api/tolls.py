"""Routes of tolls."""

from collections.abc import Sequence
from decimal import Decimal

from fastapi import APIRouter
from pydantic import BaseModel
from sqlmodel import select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.toll import Toll

router = APIRouter(prefix="/tolls", tags=["Tolls"])


class NewToll(BaseModel):
    """What a client sends."""

    amount: Decimal


@router.post("", status_code=201)
async def create_toll(new: NewToll, session: SessionDep) -> Toll:
    """Store a toll."""
    toll = Toll(amount=new.amount)
    session.add(toll)
    await session.commit()
    return toll


@router.get("")
async def read_tolls(session: ReadSessionDep) -> Sequence[Toll]:
    """Read the tolls."""
    return (await session.exec(select(Toll).limit(100))).all()
