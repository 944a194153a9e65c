"""Version 2."""

from fastapi import APIRouter

from app.api.v2 import planets

router = APIRouter(prefix="/v2")
router.include_router(planets.router)
