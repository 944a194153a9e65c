"""Routes of planets."""

from fastapi import APIRouter

router = APIRouter(prefix="/planets", tags=["Planets 1"])


@router.get("")
async def read_planets_v1() -> dict[str, int]:
    """Read the planets."""
    return {"version": 1}
