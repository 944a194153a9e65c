"""The extension's part of the admin."""

from sqladmin import Admin

from app.core.admin import register_views
from app.extensions.messenger.admin import views


def setup_admin(admin: Admin) -> None:
    """Add every view of `views.py`."""
    register_views(admin, views)
