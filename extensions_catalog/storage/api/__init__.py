"""Files in Supabase Storage: callers upload and download them there, with signed URLs."""

from fastapi import APIRouter

from app.extensions.storage.api import objects

router = APIRouter()
router.include_router(objects.router)

__all__ = ["router"]
