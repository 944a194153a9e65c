"""Routes of badges."""

from uuid import UUID

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.badge import Badge

router = APIRouter(prefix="/badges", tags=["Badges"])


class NewBadge(BaseModel):
    """What a client sends."""

    holder: str


@router.post("", status_code=201)
async def create_badge(new: NewBadge, session: SessionDep) -> Badge:
    """Hand out a badge."""
    badge = Badge(holder=new.holder)
    session.add(badge)
    await session.commit()
    return badge


@router.get("/{badge_id}")
async def read_badge(badge_id: UUID, session: ReadSessionDep) -> Badge:
    """Read a badge."""
    badge = await session.get(Badge, badge_id)
    if badge is None:
        raise HTTPException(404)
    return badge
