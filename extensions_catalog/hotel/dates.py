"""The current date of the hotel."""

from datetime import date, datetime
from zoneinfo import ZoneInfo

from app.core.config import settings


def today() -> date:
    """The current date in the time zone of the schedules, `CELERY_TIMEZONE`."""
    return datetime.now(ZoneInfo(settings.CELERY_TIMEZONE)).date()
