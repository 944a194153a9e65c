"""Barrels, sent one by one."""

from collections.abc import AsyncIterable

from fastapi import APIRouter
from sqlmodel import select

from app.core.dependencies import SessionDep
from app.models.barrel import Barrel
from kit.database import stream_rows

router = APIRouter(prefix="/barrels", tags=["Barrels"])


@router.post("", status_code=201)
async def create_barrel(barrel: Barrel, session: SessionDep) -> Barrel:
    """Store a barrel."""
    session.add(barrel)
    await session.commit()
    return barrel


@router.get("/lines")
async def send_barrels() -> AsyncIterable[Barrel]:
    """Send each barrel as a line of JSON."""
    async for barrel in stream_rows(select(Barrel)):
        yield barrel
