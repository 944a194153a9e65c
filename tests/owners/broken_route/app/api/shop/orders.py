"""Routes that import what is not there."""

from fastapi import APIRouter

from app.core.config import nothing_such  # type: ignore[attr-defined]

router = APIRouter()
