"""Notes, which every caller with access to the API may write."""

from app.extensions._example.api.notes import router
from app.extensions._example.api.pages import page_router

__all__ = ["page_router", "router"]
