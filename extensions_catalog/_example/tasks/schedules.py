"""Schedules of the extension's tasks; beat stores each as `example.<name>`."""

from typing import Any

from celery.schedules import crontab

from app.extensions._example.tasks import count_missing_words

SCHEDULES: dict[str, dict[str, Any]] = {
    "count-missing-words": {
        "task": count_missing_words.name,
        "schedule": crontab(minute="*/15"),
    },
}
