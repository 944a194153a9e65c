"""Routes of shelves."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.shelf import Shelf, ShelfItem

router = APIRouter(prefix="/shelves", tags=["Shelves"])


class NewShelf(BaseModel):
    """What a client sends."""

    name: str
    height: int | None = None


class NewItem(BaseModel):
    """What a client sends."""

    name: str


@router.post("", status_code=201)
async def create_shelf(new: NewShelf, session: SessionDep) -> Shelf:
    """Store a shelf."""
    shelf = Shelf(**new.model_dump())
    session.add(shelf)
    await session.commit()
    return shelf


@router.post("/{shelf_id}/items", status_code=201)
async def create_item(shelf_id: int, new: NewItem, session: SessionDep) -> ShelfItem:
    """Put something on a shelf."""
    item = ShelfItem(name=new.name, shelf_id=shelf_id)
    session.add(item)
    await session.commit()
    return item


@router.delete("/{shelf_id}", status_code=204)
async def delete_shelf(shelf_id: int, session: SessionDep) -> None:
    """Remove a shelf."""
    await session.delete(await session.get_one(Shelf, shelf_id))
    await session.commit()


@router.post("/{shelf_id}/nested")
async def create_some(shelf_id: int, session: SessionDep) -> dict[str, int]:
    """Store what can be stored, and skip the rest."""
    skipped = 0
    for place in (shelf_id, 404):
        try:
            async with session.begin_nested():
                session.add(ShelfItem(name="Book", shelf_id=place))
        except IntegrityError:
            skipped += 1
    await session.commit()
    return {"skipped": skipped, "stored": 2 - skipped}


@router.post("/{shelf_id}/note")
async def write_note(shelf_id: int, note: dict[str, Any], session: SessionDep) -> None:
    """Store any JSON."""
    shelf = await session.get_one(Shelf, shelf_id)
    shelf.note = note
    await session.commit()


@router.get("/by-uuid/{key}")
async def read_by_uuid(key: str, session: ReadSessionDep) -> list[int]:
    """Read with SQL that makes another type of what is sent."""
    statement = text("SELECT 1 WHERE CAST(CAST(:key AS text) AS uuid) IS NULL")
    return list(await session.scalars(statement, {"key": key}))
