"""Routes of planets."""

from fastapi import APIRouter

router = APIRouter(prefix="/planets", tags=["Planets 2"])


@router.get("")
async def read_planets_v2() -> dict[str, int]:
    """Read the planets."""
    return {"version": 2}
