"""Booths in the admin."""

from sqladmin import ModelView

from app.models.booth import Booth


class BoothAdmin(ModelView, model=Booth):
    """Booths."""

    column_list = ("id", "hall", "place", "opens", "closes")
    column_searchable_list = ("hall",)
    column_sortable_list = ("place",)
