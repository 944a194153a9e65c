"""What the shop sells, and where."""

from typing import Any

from fastapi import APIRouter

from app.core.config import settings

router = APIRouter(prefix="/shop", tags=["Shop"])


@router.get("")
async def read_shop() -> dict[str, Any]:
    """Show regions and sizes."""
    return {"regions": settings.SHOP_REGIONS, "sizes": sorted(settings.SHOP_SIZES)}
