"""Routes of songs."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from sqlmodel import col, func, select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.core.pagination import Page, PageDep
from app.models.song import Song

router = APIRouter(prefix="/songs", tags=["Songs"])


class NewSong(BaseModel):
    """What a client sends."""

    title: str


@router.post("", status_code=201)
async def create_song(new: NewSong, session: SessionDep) -> Song:
    """Store a song."""
    song = Song(title=new.title)
    session.add(song)
    await session.commit()
    return song


@router.get("", response_model=Page[Song])
async def read_songs(page: PageDep, session: ReadSessionDep) -> dict[str, Any]:
    """Read a page of songs."""
    total = (await session.exec(select(func.count()).select_from(Song))).one()
    statement = select(Song).order_by(col(Song.id)).limit(page.limit).offset(page.offset)
    return {"items": (await session.exec(statement)).all(), "total": total}


@router.get("/after")
async def read_songs_after(session: ReadSessionDep, last: int = 0) -> dict[str, int | None]:
    """Read songs after the last one that the client has."""
    statement = select(Song).where(col(Song.id) > last).order_by(col(Song.id)).limit(100)
    songs = (await session.exec(statement)).all()
    return {"next": songs[-1].id if songs else None}
