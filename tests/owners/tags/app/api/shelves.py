"""Shelves."""

from fastapi import APIRouter

from app.core.openapi_tags import APITag

router = APIRouter(prefix="/shelves", tags=[APITag.SHELVES])


@router.get("")
async def read_shelves() -> list[str]:
    """Where things are."""
    return ["A"]
