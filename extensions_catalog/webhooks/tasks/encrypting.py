"""Encrypting secrets that an older release stored plain, or another `SECRET_KEY` encrypted."""

from sqlalchemy import Text, type_coerce
from sqlalchemy.orm.attributes import flag_modified
from sqlmodel import col, select

from app.core.celery import celery_app
from app.core.config import settings
from app.core.database import sync_session_maker
from app.extensions.webhooks.encryption import is_current
from app.extensions.webhooks.models import WebhookSubscription


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.webhooks.encrypt_secrets")
def encrypt_secrets() -> int:
    """Encrypt anew what `SECRET_KEY` does not open; gives of how many subscriptions."""
    stored = type_coerce(col(WebhookSubscription.secret), Text).label("stored")
    before = type_coerce(col(WebhookSubscription.previous_secret), Text).label("stored_before")
    statement = select(WebhookSubscription, stored, before).with_for_update()
    count = 0
    with sync_session_maker.begin() as session:
        for subscription, secret, previous in session.exec(statement).all():
            if not (is_current(secret) and (not previous or is_current(previous))):
                count += 1
                flag_modified(subscription, "secret")
                flag_modified(subscription, "previous_secret")
    return count
