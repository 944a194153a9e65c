"""Encrypting secrets that an older release stored plain, or another `SECRET_KEY` encrypted."""

from sqlalchemy import Text, type_coerce
from sqlalchemy.orm.attributes import flag_modified
from sqlmodel import col, select

from app.core.celery import celery_app
from app.core.config import settings
from app.core.database import sync_session_maker
from app.extensions.webhooks.encryption import is_current
from app.extensions.webhooks.models import WebhookSubscription

SECRETS = ("secret", "previous_secret")


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.webhooks.encrypt_secrets")
def encrypt_secrets() -> int:
    """Encrypt anew what `SECRET_KEY` does not open; gives of how many subscriptions."""
    stored = [
        type_coerce(col(getattr(WebhookSubscription, name)), Text).label(f"stored_{name}")
        for name in SECRETS
    ]
    count = 0
    with sync_session_maker.begin() as session:
        rows = session.exec(select(WebhookSubscription, *stored).with_for_update()).all()
        for subscription, *texts in rows:
            if not all(text is None or is_current(text) for text in texts):
                count += 1
                for name in SECRETS:
                    flag_modified(subscription, name)
    return count
