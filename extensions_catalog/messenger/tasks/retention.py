"""Throwing away messages that are done with."""

from datetime import UTC, datetime, timedelta

from sqlmodel import col, delete, select

from app.core.celery import celery_app
from app.core.config import settings
from app.core.database import sync_session_maker
from app.extensions.messenger.models import MessageState, MessengerMessage
from app.extensions.messenger.settings import messenger_settings

BATCH_SIZE = 1_000
MOST_BATCHES = 100

UNFINISHED = (MessageState.QUEUED, MessageState.SENDING)


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.messenger.delete_old")
def delete_old_messages() -> int:
    """Delete what has been done with for `MESSENGER_KEEP_DAYS`; gives how many messages."""
    before = datetime.now(UTC) - timedelta(days=messenger_settings.KEEP_DAYS)
    old = (
        select(MessengerMessage.id)
        .where(
            col(MessengerMessage.created_at) < before,
            col(MessengerMessage.state).not_in(UNFINISHED),
        )
        .order_by(col(MessengerMessage.id))
        .limit(BATCH_SIZE)
    )
    deleted = 0
    for _ in range(MOST_BATCHES):
        with sync_session_maker() as session:
            statement = delete(MessengerMessage).where(col(MessengerMessage.id).in_(old))
            count = session.exec(statement).rowcount
            session.commit()
        deleted += count
        if count < BATCH_SIZE:
            break
    return deleted
