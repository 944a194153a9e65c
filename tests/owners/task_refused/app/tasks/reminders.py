"""Reminders."""

from app.core.celery import celery_app
from app.core.config import settings


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.remind")
def remind(text: str) -> str:
    """Remind somebody."""
    return text
