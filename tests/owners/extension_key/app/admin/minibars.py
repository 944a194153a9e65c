"""Minibars in the admin."""

from sqladmin import ModelView

from app.models.minibar import Minibar


class MinibarAdmin(ModelView, model=Minibar):
    """Minibars."""

    column_list = ("id", "room", "bottles")
    column_searchable_list = ("room.name",)
