"""The current date depends on the hotel's time zone."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.extensions.hotel.dates import today
from kit.testing import change_settings


def test_follows_the_zone_of_the_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    """These two places are 25 hours apart: it is never the same day in both."""
    days = []
    for zone in ("Pacific/Niue", "Pacific/Kiritimati"):
        change_settings(monkeypatch, CELERY_TIMEZONE=zone)
        before = datetime.now(ZoneInfo(zone)).date()
        days.append(today())
        assert days[-1] - before in (timedelta(0), timedelta(days=1))
    assert days[0] < days[1]
