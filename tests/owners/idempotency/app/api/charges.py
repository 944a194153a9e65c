"""Routes of charges."""

from typing import Annotated

from fastapi import APIRouter, Header
from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError
from sqlmodel import func, select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.charge import Charge
from kit.errors import Problem

router = APIRouter(prefix="/charges", tags=["Charges"])


class NewCharge(BaseModel):
    """What a client sends."""

    cents: int


@router.post("", status_code=201)
async def create_charge(
    new: NewCharge, idempotency_key: Annotated[str, Header()], session: SessionDep
) -> Charge:
    """Pay once."""
    charge = Charge(key=idempotency_key, cents=new.cents)
    session.add(charge)
    try:
        await session.commit()
    except IntegrityError:
        await session.rollback()
        statement = select(Charge).where(Charge.key == idempotency_key)
        charge = (await session.exec(statement)).one()
    if charge.cents != new.cents:
        raise Problem(409, "This key was sent with another charge.")
    return Charge(id=charge.id, key=idempotency_key, cents=charge.cents)


@router.get("")
async def count_charges(session: ReadSessionDep) -> dict[str, int]:
    """Count the charges."""
    return {"charges": (await session.exec(select(func.count()).select_from(Charge))).one()}
