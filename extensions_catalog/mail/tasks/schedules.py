"""When the extension's tasks run; each key is stored with the extension's name before it."""

from typing import Any

from celery.schedules import crontab

from app.extensions.mail.tasks import delete_old_mail, send_due_mail

SEND_SECONDS = 60

SCHEDULES: dict[str, dict[str, Any]] = {
    # New mails do not wait for it: it sends again what failed, and what a lost worker left behind.
    "send-due": {
        "task": send_due_mail.name,
        "schedule": SEND_SECONDS,
        # Without a worker they would pile up, each as good as the next.
        "options": {"expires": SEND_SECONDS},
    },
    "delete-old": {
        "task": delete_old_mail.name,
        "schedule": crontab(hour="3", minute="30"),
    },
}
