"""Notes of programs: the scope `example:read` reads them, `example:write` changes them."""

from app.extensions._example.api.notes import router
from app.extensions._example.api.pages import page_router

__all__ = ["page_router", "router"]
