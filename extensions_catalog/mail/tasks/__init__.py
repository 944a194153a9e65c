"""The extension's tasks; the module of a new one is imported here."""

from app.extensions.mail.tasks.delivery import send_due_mail
from app.extensions.mail.tasks.retention import delete_old_mail

__all__ = ["delete_old_mail", "send_due_mail"]
