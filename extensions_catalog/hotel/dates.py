"""Which day it is."""

from datetime import date, datetime
from zoneinfo import ZoneInfo

from app.core.config import settings


def today() -> date:
    """The day in the zone of the schedules, `CELERY_TIMEZONE`, which is the hotel's."""
    return datetime.now(ZoneInfo(settings.CELERY_TIMEZONE)).date()
