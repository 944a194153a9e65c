"""Recipes in the admin."""

from sqladmin import ModelView

from app.admin.filters import DateRangeFilter
from app.models.recipe import Recipe


class RecipeAdmin(ModelView, model=Recipe):
    """Recipes."""

    column_list = ("id", "name", "baking", "rest", "first_baked", "served_at")
    column_sortable_list = ("baking", "first_baked", "served_at")
    column_searchable_list = ("name", "first_baked")
    column_filters = (DateRangeFilter(Recipe.first_baked),)
