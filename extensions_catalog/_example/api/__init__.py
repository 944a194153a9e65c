"""Notes of programs.

Who reads them needs the scope `example:read`,
who changes them `example:write`.
"""

from app.extensions._example.api.notes import router
from app.extensions._example.api.pages import page_router

__all__ = ["page_router", "router"]
