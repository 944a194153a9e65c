"""Routes of the weather."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy import text

from app.core.dependencies import ReadSessionDep

router = APIRouter(prefix="/stations", tags=["Stations"])


class Station:
    """Measures."""

    def __init__(self, degrees: int) -> None:
        self.degrees = degrees


async def get_station() -> AsyncIterator[Station]:
    """Open the station for one request."""
    yield Station(21)


async def count_rows(session: ReadSessionDep) -> int:
    """A dependency that asks the database."""
    return int(await session.scalar(text("SELECT 1")))


StationDep = Annotated[Station, Depends(get_station)]


@router.get("")
async def read_station(
    station: StationDep, rows: Annotated[int, Depends(count_rows)]
) -> dict[str, int]:
    """Read the weather."""
    return {"degrees": station.degrees, "rows": rows}
