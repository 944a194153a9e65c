"""Pallets, sent one by one."""

from collections.abc import AsyncIterable

from fastapi import APIRouter
from sqlmodel import select

from app.core.dependencies import ReadSessionDep
from app.models.pallet import Pallet

router = APIRouter(prefix="/pallets", tags=["Pallets"])


@router.get("/lines")
async def send_pallets(session: ReadSessionDep) -> AsyncIterable[Pallet]:
    """Send each pallet as a line of JSON."""
    for pallet in await session.exec(select(Pallet)):
        yield pallet
