"""Throwing away mails that are done with."""

from datetime import UTC, datetime, timedelta

from sqlmodel import col, delete, select

from app.core.celery import celery_app
from app.core.config import settings
from app.core.database import sync_session_maker
from app.extensions.mail.models import MailMessage, MailState
from app.extensions.mail.settings import mail_settings

BATCH_SIZE = 1_000
MOST_BATCHES = 100

UNFINISHED = (MailState.QUEUED, MailState.SENDING)


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.mail.delete_old")
def delete_old_mail() -> int:
    """Delete what has been done with for `MAIL_KEEP_DAYS`; gives how many mails those were."""
    before = datetime.now(UTC) - timedelta(days=mail_settings.KEEP_DAYS)
    old = (
        select(MailMessage.id)
        .where(col(MailMessage.created_at) < before, col(MailMessage.state).not_in(UNFINISHED))
        .order_by(col(MailMessage.id))
        .limit(BATCH_SIZE)
    )
    deleted = 0
    for _ in range(MOST_BATCHES):
        with sync_session_maker() as session:
            count = session.exec(delete(MailMessage).where(col(MailMessage.id).in_(old))).rowcount
            session.commit()
        deleted += count
        if count < BATCH_SIZE:
            break
    return deleted
