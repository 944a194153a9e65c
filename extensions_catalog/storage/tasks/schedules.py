"""Schedules of the extension's tasks; beat stores each as `storage.<name>`."""

from typing import Any

from celery.schedules import crontab

from app.extensions.storage.tasks import clean_up

SCHEDULES: dict[str, dict[str, Any]] = {
    "clean-up": {
        "task": clean_up.name,
        "schedule": crontab(hour="3", minute="43"),
    },
}
