"""The extension's tasks; the module of a new one is imported here."""

from app.extensions.hotel.tasks.daily import daily_task

__all__ = ["daily_task"]
