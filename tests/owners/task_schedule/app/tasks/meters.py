"""Reads the meters, by a schedule."""

from app.core.celery import celery_app
from app.core.config import settings


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.read_meters", ignore_result=True)
def read_meters(occasion: str = "day") -> str:
    """Read them; returns when."""
    return occasion
