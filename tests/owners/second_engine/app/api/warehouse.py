"""Routes of the warehouse."""

from typing import Any

from fastapi import APIRouter
from sqlalchemy import text

from app.core.warehouse import WarehouseDep, warehouse_lifespan

router = APIRouter(prefix="/warehouse", tags=["Warehouse"], lifespan=warehouse_lifespan)


@router.get("")
async def read_warehouse(session: WarehouseDep) -> dict[str, Any]:
    """Ask the second database."""
    statement = text("SELECT current_setting('application_name') AS database, 1 AS one")
    return dict((await session.execute(statement)).mappings().one())


@router.post("/missing")
async def read_missing(session: WarehouseDep) -> None:
    """Ask for a table that is not there."""
    await session.execute(text("SELECT 1 FROM missing"))
