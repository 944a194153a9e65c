"""Deleting old deliveries: they hold what was sent, and that is kept no longer than needed."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete
from sqlmodel import col, select

from app.core.celery import celery_app
from app.core.config import settings
from app.core.database import sync_session_maker
from app.extensions.webhooks.models import DeliveryState, WebhookDelivery
from app.extensions.webhooks.settings import webhooks_settings

BATCH_SIZE = 1000
MOST_BATCHES = 500


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.webhooks.delete_old_deliveries")
def delete_old_deliveries() -> int:
    """Delete deliveries of more than WEBHOOKS_KEEP_DAYS ago that have ended; gives how many."""
    before = datetime.now(UTC) - timedelta(days=webhooks_settings.KEEP_DAYS)
    count = 0
    for _ in range(MOST_BATCHES):
        deleted = _delete_some(before)
        count += deleted
        if deleted < BATCH_SIZE:
            break
    return count


def _delete_some(before: datetime) -> int:
    oldest = (
        select(WebhookDelivery.id)
        .where(
            col(WebhookDelivery.created_at) < before,
            col(WebhookDelivery.state) != DeliveryState.PENDING,
        )
        .order_by(col(WebhookDelivery.id))
        .limit(BATCH_SIZE)
        .with_for_update(skip_locked=True)
    )
    with sync_session_maker.begin() as session:
        return session.exec(
            delete(WebhookDelivery).where(col(WebhookDelivery.id).in_(oldest))
        ).rowcount
