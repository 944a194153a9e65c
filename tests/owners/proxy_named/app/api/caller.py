"""Who calls."""

from fastapi import APIRouter, Request

router = APIRouter(prefix="/caller", tags=["Caller"])


@router.get("")
async def read_caller(request: Request) -> dict[str, str | None]:
    """Show the caller's address and scheme."""
    address = request.client.host if request.client else None
    return {"address": address, "scheme": request.url.scheme}
