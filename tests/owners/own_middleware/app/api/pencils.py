"""Routes behind middleware."""

from typing import Any

from fastapi import APIRouter, Request

from app.core.dependencies import SessionDep
from kit.models import ApiToken

router = APIRouter(prefix="/pencils", tags=["Pencils"])


@router.get("")
async def read_pencils() -> dict[str, str]:
    """Read what is worth compressing."""
    return {"pencils": "|" * 50}


@router.get("/timing")
async def read_timing(request: Request) -> dict[str, Any]:
    """Read what the middleware left."""
    return {"timed": request.state.timed, "tenant": request.state.tenant}


@router.get("/broken")
async def read_broken() -> None:
    """Fail."""
    raise ZeroDivisionError


@router.post("/duplicate")
async def create_duplicates(session: SessionDep) -> None:
    """Fail in the database."""
    for _ in range(2):
        session.add(ApiToken(name="x", hint="x", token_hash="x"))  # noqa: S106
    await session.commit()
