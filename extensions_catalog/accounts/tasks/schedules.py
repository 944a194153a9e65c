"""Schedules of the extension's tasks; beat stores each as `accounts.<name>`."""

from typing import Any

from celery.schedules import crontab

from app.extensions.accounts.tasks import anonymise_unseen_profiles

SCHEDULES: dict[str, dict[str, Any]] = {
    "anonymise-unseen-profiles": {
        "task": anonymise_unseen_profiles.name,
        "schedule": crontab(hour="3", minute="37"),
    },
}
