"""Routes of fees."""

from collections.abc import Sequence

from fastapi import APIRouter
from sqlmodel import select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.fee import Fee, FeeInput

router = APIRouter(prefix="/fees", tags=["Fees"])


@router.post("", status_code=201)
async def create_fee(new: FeeInput, session: SessionDep) -> Fee:
    """Store a fee."""
    fee = Fee.model_validate(new)
    session.add(fee)
    await session.commit()
    return fee


@router.get("")
async def read_fees(session: ReadSessionDep) -> Sequence[Fee]:
    """Read the fees."""
    return (await session.exec(select(Fee).limit(100))).all()
