"""A route that fails."""

from fastapi import APIRouter

router = APIRouter(prefix="/failures", tags=["Failures"])


@router.get("")
async def fail() -> dict[str, str]:
    """Fail."""
    raise ZeroDivisionError
