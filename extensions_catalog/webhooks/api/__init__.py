"""Messages of this service, sent to other systems that have subscribed to them."""

from fastapi import APIRouter

from app.extensions.webhooks.api import deliveries, subscriptions
from kit.security import serves

router = APIRouter(dependencies=[serves(scope="webhooks:read", write_scope="webhooks:write")])
router.include_router(subscriptions.router)
router.include_router(deliveries.router)

__all__ = ["router"]
