"""The extension's tasks; the module of a new one is imported here."""

from app.extensions.webhooks.tasks.cleaning import delete_old_deliveries
from app.extensions.webhooks.tasks.deliveries import deliver_due

__all__ = ["delete_old_deliveries", "deliver_due"]
