"""Messages that came in over the Messenger platform, and replies to them."""

from app.extensions.messenger.api.messages import router
from app.extensions.messenger.api.webhook import page_router

__all__ = ["page_router", "router"]
