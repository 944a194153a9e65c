"""Deleting mails that are done with."""

from app.core.celery import celery_app
from app.core.config import settings
from app.extensions.mail.models import MailMessage
from app.extensions.mail.settings import mail_settings
from kit.outbox import delete_old


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.mail.delete_old")
def delete_old_mail() -> int:
    """Delete what has been done with for `MAIL_KEEP_DAYS`; gives how many mails those were."""
    return delete_old(MailMessage, days=mail_settings.KEEP_DAYS)
