"""When the extension's tasks run; each key is stored with the extension's name before it."""

from typing import Any

from celery.schedules import crontab

from app.extensions.messenger.tasks import delete_old_messages, send_due_replies

SEND_SECONDS = 30

SCHEDULES: dict[str, dict[str, Any]] = {
    # New replies do not wait for it: it sends again what failed, and what a lost worker left.
    "send-due": {
        "task": send_due_replies.name,
        "schedule": SEND_SECONDS,
        # Without a worker they would pile up, each as good as the next.
        "options": {"expires": SEND_SECONDS},
    },
    "delete-old": {
        "task": delete_old_messages.name,
        "schedule": crontab(hour="3", minute="45"),
    },
}
