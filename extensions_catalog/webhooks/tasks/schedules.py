"""When the extension's tasks run; each key is stored with the extension's name before it."""

from typing import Any

from celery.schedules import crontab

from app.extensions.webhooks.tasks import delete_old_deliveries, deliver_due, encrypt_secrets

DELIVER_SECONDS = 30

SCHEDULES: dict[str, dict[str, Any]] = {
    # Further attempts that have become due, and whatever was lost.
    "deliver-due": {
        "task": deliver_due.name,
        "schedule": DELIVER_SECONDS,
        # While no worker runs, they would only pile up.
        "options": {"expires": DELIVER_SECONDS},
    },
    "delete-old-deliveries": {
        "task": delete_old_deliveries.name,
        "schedule": crontab(hour="3", minute="17"),
    },
    "encrypt-secrets": {
        "task": encrypt_secrets.name,
        "schedule": crontab(hour="3", minute="27"),
    },
}
