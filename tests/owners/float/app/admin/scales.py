"""Scales in the admin."""

from sqladmin import ModelView

from app.models.scale import Scale


class ScaleAdmin(ModelView, model=Scale):
    """Scales."""

    column_list = ("id", "weight")
    column_sortable_list = ("id", "weight")
