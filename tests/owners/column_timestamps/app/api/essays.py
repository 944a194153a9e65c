"""Routes of essays."""

from fastapi import APIRouter
from pydantic import BaseModel

from app.core.dependencies import SessionDep
from app.models.essay import Essay

router = APIRouter(prefix="/essays", tags=["Essays"])


class EssayInput(BaseModel):
    """What a client sends."""

    title: str


class EssayOutput(BaseModel):
    """What a client gets: the title, and whether it was changed later."""

    title: str
    later: bool


@router.post("", status_code=201)
async def create_essay(new: EssayInput, session: SessionDep) -> Essay:
    """Store an essay."""
    essay = Essay(title=new.title)
    session.add(essay)
    await session.commit()
    return essay


@router.patch("/{essay_id}")
async def change_essay(essay_id: int, new: EssayInput, session: SessionDep) -> EssayOutput:
    """Change an essay's title."""
    essay = await session.get_one(Essay, essay_id)
    before = essay.updated_at
    essay.title = new.title
    await session.commit()
    await session.refresh(essay)
    later = before is not None and essay.updated_at is not None and essay.updated_at > before
    return EssayOutput(title=essay.title, later=later)
