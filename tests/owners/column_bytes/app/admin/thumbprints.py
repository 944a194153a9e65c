"""Thumbprints in the admin."""

from sqladmin import ModelView

from app.models.thumbprint import Thumbprint


class ThumbprintAdmin(ModelView, model=Thumbprint):
    """Thumbprints."""

    column_list = ("id", "data", "digest")
    column_sortable_list = ("data",)
