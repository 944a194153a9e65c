"""Blueprints in the admin."""

from sqladmin import ModelView

from app.models.blueprint import Blueprint


class BlueprintAdmin(ModelView, model=Blueprint):
    """Blueprints."""

    column_list = ("id", "options", "steps", "extra", "rows")
    column_searchable_list = ("options", "extra")
    column_sortable_list = ("id", "options")
