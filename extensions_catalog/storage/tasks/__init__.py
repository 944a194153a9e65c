"""The extension's tasks; the module of a new one is imported here."""

from app.extensions.storage.tasks.deletion import delete_marked
from app.extensions.storage.tasks.reconciliation import clean_up, compare_with_bucket

__all__ = ["clean_up", "compare_with_bucket", "delete_marked"]
