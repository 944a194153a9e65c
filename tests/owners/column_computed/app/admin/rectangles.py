"""Rectangles in the admin."""

from sqladmin import ModelView

from app.models.rectangle import Rectangle


class RectangleAdmin(ModelView, model=Rectangle):
    """Rectangles."""

    column_list = ("id", "width", "height", "area")
    column_sortable_list = ("area",)
