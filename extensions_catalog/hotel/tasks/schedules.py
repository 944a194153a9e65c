"""When the extension's tasks run; each key is stored with the extension's name before it."""

from typing import Any

from celery.schedules import crontab

from app.extensions.hotel.tasks import daily_task

SCHEDULES: dict[str, dict[str, Any]] = {
    # Before the front desk opens, and when nobody is expected from the evening before any more.
    "daily-task": {
        "task": daily_task.name,
        "schedule": crontab(hour="5", minute="0"),
    },
}
