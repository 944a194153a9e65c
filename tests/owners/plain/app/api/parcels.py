"""Routes of parcels."""

from collections.abc import Sequence

from fastapi import APIRouter
from pydantic import BaseModel
from sqlmodel import select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.parcel import Parcel

router = APIRouter(prefix="/parcels", tags=["Parcels"])


class NewParcel(BaseModel):
    """What a client sends."""

    grams: int


@router.post("", status_code=201)
async def create_parcel(new: NewParcel, session: SessionDep) -> Parcel:
    """Send a parcel."""
    parcel = Parcel(grams=new.grams)
    session.add(parcel)
    await session.commit()
    return parcel


@router.get("")
async def read_parcels(session: ReadSessionDep) -> Sequence[Parcel]:
    """Read the parcels."""
    return (await session.exec(select(Parcel).limit(100))).all()
