"""The extension's part of the admin."""

from sqladmin import Admin

from app.extensions.webhooks.admin import views
from kit.admin import register_views


def setup_admin(admin: Admin) -> None:
    """Add every view of `views.py`."""
    register_views(admin, views)
