"""Messages of this service, sent to other systems that have subscribed to them."""

from fastapi import APIRouter

from app.extensions.webhooks.api import deliveries, subscriptions

router = APIRouter()
router.include_router(subscriptions.router)
router.include_router(deliveries.router)

__all__ = ["router"]
