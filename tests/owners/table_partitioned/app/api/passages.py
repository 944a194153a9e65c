"""Passages through doors."""

from collections.abc import Sequence
from datetime import UTC, datetime

from fastapi import APIRouter
from sqlmodel import select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.passage import Passage

router = APIRouter(prefix="/passages")


@router.post("", status_code=201)
async def add_passage(session: SessionDep, what: str) -> int | None:
    """Keep what passes now."""
    passage = Passage(passed_at=datetime.now(UTC), what=what)
    session.add(passage)
    await session.commit()
    return passage.id


@router.get("")
async def list_passages(session: ReadSessionDep) -> Sequence[str]:
    """What passed."""
    return (await session.exec(select(Passage.what))).all()
