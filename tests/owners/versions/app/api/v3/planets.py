"""Routes of planets."""

from fastapi import APIRouter

router = APIRouter(prefix="/v3/planets", tags=["Planets 3"])


@router.get("")
async def read_planets_v3() -> dict[str, int]:
    """Read the planets."""
    return {"version": 3}
