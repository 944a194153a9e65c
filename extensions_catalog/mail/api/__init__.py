"""Transactional mail: what has become of each mail, and what the provider tells of it later."""

from fastapi import APIRouter

from app.extensions.mail.api import bounces, messages
from app.extensions.mail.api.pages import page_router
from kit.security import serves

router = APIRouter(dependencies=[serves(scope="mail:read", write_scope="mail:write")])
router.include_router(messages.router)
router.include_router(bounces.router)

__all__ = ["page_router", "router"]
