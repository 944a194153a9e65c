"""Anonymise profiles: this service is not notified when a user is deleted from Supabase Auth.

The row stays, without name and address, since rows of other tables may refer to the user's id. A
user who returns is recognised by it, and the access token has the address again.
"""

from datetime import timedelta

from sqlalchemy import func, or_
from sqlmodel import col, select, update

from app.core.celery import celery_app
from app.core.config import settings
from app.core.database import sync_session_maker
from app.extensions.accounts.models import AccountsProfile
from app.extensions.accounts.settings import accounts_settings

BATCH_SIZE = 500
MOST_BATCHES = 1_000
"""Of profiles in one run, each batch in a transaction of its own; the next run does the rest."""


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.accounts.anonymise_unseen_profiles")
def anonymise_unseen_profiles() -> int:
    """Anonymise profiles without a visit for `ACCOUNTS_RETENTION_DAYS`; returns their number."""
    if accounts_settings.RETENTION_DAYS is None:
        return 0
    last_day = func.now() - timedelta(days=accounts_settings.RETENTION_DAYS)
    is_named = or_(
        col(AccountsProfile.email).is_not(None), col(AccountsProfile.display_name).is_not(None)
    )
    unseen = (
        select(AccountsProfile.id)
        .where(col(AccountsProfile.last_seen_at) < last_day, is_named)
        .limit(BATCH_SIZE)
        .with_for_update(skip_locked=True)
    )
    statement = (
        update(AccountsProfile)
        .where(col(AccountsProfile.id).in_(unseen))
        .values(email=None, display_name=None)
        .returning(col(AccountsProfile.id))
    )
    anonymised = 0
    for _ in range(MOST_BATCHES):
        with sync_session_maker.begin() as session:
            count = len(session.execute(statement).all())
        anonymised += count
        if count < BATCH_SIZE:
            break
    return anonymised
