"""Deleting old deliveries: they hold what was sent, and that is kept no longer than needed."""

from app.core.celery import celery_app
from app.core.config import settings
from app.extensions.webhooks.models import DeliveryState, WebhookDelivery
from app.extensions.webhooks.settings import webhooks_settings
from kit.outbox import delete_old


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.webhooks.delete_old_deliveries")
def delete_old_deliveries() -> int:
    """Delete deliveries of more than WEBHOOKS_KEEP_DAYS ago that have ended; gives how many."""
    days = webhooks_settings.KEEP_DAYS
    return delete_old(WebhookDelivery, days=days, unfinished=(DeliveryState.PENDING,))
