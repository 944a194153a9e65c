"""Schedules of the extension's tasks; beat stores each as `hotel.<name>`."""

from typing import Any

from celery.schedules import crontab

from app.extensions.hotel.tasks import daily_task

SCHEDULES: dict[str, dict[str, Any]] = {
    # Before the front desk opens, and when no guest of the evening before is expected any more.
    "daily-task": {
        "task": daily_task.name,
        "schedule": crontab(hour="5", minute="0"),
    },
}
