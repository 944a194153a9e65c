"""When the extension's tasks run; each key is stored with the extension's name before it."""

from typing import Any

from celery.schedules import crontab

from app.extensions._example.tasks import count_missing_words

SCHEDULES: dict[str, dict[str, Any]] = {
    "count-missing-words": {
        "task": count_missing_words.name,
        "schedule": crontab(minute="*/15"),
    },
}
