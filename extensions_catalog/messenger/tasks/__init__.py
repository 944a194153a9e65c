"""The extension's tasks; the module of a new one is imported here."""

from app.extensions.messenger.tasks.delivery import send_due_replies
from app.extensions.messenger.tasks.retention import delete_old_messages

__all__ = ["delete_old_messages", "send_due_replies"]
