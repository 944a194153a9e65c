"""Routes of scales."""

from collections.abc import Sequence

from fastapi import APIRouter
from pydantic import BaseModel
from sqlmodel import select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.scale import Scale

router = APIRouter(prefix="/scales", tags=["Scales"])


class NewScale(BaseModel):
    """What a client sends."""

    weight: float


@router.post("", status_code=201)
async def create_scale(new: NewScale, session: SessionDep) -> Scale:
    """Send a scale."""
    scale = Scale(weight=new.weight)
    session.add(scale)
    await session.commit()
    return scale


@router.get("")
async def read_scales(session: ReadSessionDep) -> Sequence[Scale]:
    """Read the scales."""
    return (await session.exec(select(Scale).limit(100))).all()
