"""Sends short messages."""

import logging

from app.core.celery import celery_app
from app.core.config import settings
from app.models.sms import Sms
from kit.outbox import Outbox, delete_old

logger = logging.getLogger(__name__)

outbox = Outbox(Sms, lease=60)


def send_sms(sms: Sms) -> None:
    """Hand one to the gateway."""
    logger.info("sent to %s", sms.to)


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.send_due_sms", ignore_result=True)
def send_due_sms() -> int:
    """Send what is due."""
    return outbox.send_due(send_sms, again=send_due_sms.delay)


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.delete_old_sms")
def delete_old_sms() -> int:
    """Delete what was sent long ago."""
    return delete_old(Sms, days=90)
