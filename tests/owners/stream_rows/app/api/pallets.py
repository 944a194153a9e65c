"""Pallets, and their export."""

from collections.abc import AsyncIterator

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from sqlmodel import select

from app.core.dependencies import SessionDep
from app.models.pallet import Pallet
from kit.database import stream_rows

router = APIRouter(prefix="/pallets", tags=["Pallets"])


@router.post("", status_code=201)
async def create_pallet(pallet: Pallet, session: SessionDep) -> Pallet:
    """Store a pallet."""
    session.add(pallet)
    await session.commit()
    return pallet


@router.get("/export")
async def export_pallets() -> StreamingResponse:
    """Send all pallets as CSV."""

    async def lines() -> AsyncIterator[str]:
        async for pallet in stream_rows(select(Pallet)):
            yield f"{pallet.id},{pallet.name}\n"

    return StreamingResponse(lines(), media_type="text/csv")
