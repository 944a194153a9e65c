"""Version 1."""

from fastapi import APIRouter

from app.api.v1 import planets

router = APIRouter(prefix="/v1")
router.include_router(planets.router)
