"""Files in Supabase Storage: callers upload and download them there, with signed URLs."""

from app.extensions.storage.api.objects import router

__all__ = ["router"]
