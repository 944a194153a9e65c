"""Crates in the admin."""

from sqladmin import ModelView

from app.models.crate import Crate


class CrateAdmin(ModelView, model=Crate):
    """Crates."""

    column_list = ("id", "label", "weight")
    column_searchable_list = ("label",)
