"""The extension's tasks; the module of a new one is imported here."""

from app.extensions.webhooks.tasks.cleaning import delete_old_deliveries
from app.extensions.webhooks.tasks.deliveries import deliver_due
from app.extensions.webhooks.tasks.encrypting import encrypt_secrets

__all__ = ["delete_old_deliveries", "deliver_due", "encrypt_secrets"]
