"""Deleting messages that are done with."""

from app.core.celery import celery_app
from app.core.config import settings
from app.extensions.messenger.models import MessengerMessage
from app.extensions.messenger.settings import messenger_settings
from kit.outbox import delete_old


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.messenger.delete_old")
def delete_old_messages() -> int:
    """Delete what has been done with for `MESSENGER_KEEP_DAYS`; gives how many messages."""
    return delete_old(MessengerMessage, days=messenger_settings.KEEP_DAYS)
