"""Tolls in the admin."""

from sqladmin import ModelView

from app.models.toll import Toll


class TollAdmin(ModelView, model=Toll):
    """Tolls."""

    column_list = ("id", "amount", "discount")
    column_sortable_list = ("amount",)
