"""Badges in the admin."""

from sqladmin import ModelView

from app.models.badge import Badge


class BadgeAdmin(ModelView, model=Badge):
    """Badges."""

    column_list = ("id", "holder", "replaces")
    column_searchable_list = ("id", "holder")
    column_sortable_list = ("id", "holder")
