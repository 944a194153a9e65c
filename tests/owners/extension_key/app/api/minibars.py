"""Routes of minibars."""

from fastapi import APIRouter
from pydantic import BaseModel

from app.core.dependencies import SessionDep
from app.models.minibar import Minibar

router = APIRouter(prefix="/minibars", tags=["Minibars"])


class NewMinibar(BaseModel):
    """What a client sends."""

    room_id: int
    bottles: int


@router.post("", status_code=201)
async def create_minibar(new: NewMinibar, session: SessionDep) -> Minibar:
    """Store a minibar."""
    minibar = Minibar(room_id=new.room_id, bottles=new.bottles)
    session.add(minibar)
    await session.commit()
    return minibar
