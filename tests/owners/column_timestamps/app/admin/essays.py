"""Essays in the admin."""

from sqladmin import ModelView

from app.admin.views import short_time
from app.models.essay import Essay


class EssayAdmin(ModelView, model=Essay):
    """Essays."""

    column_list = ("id", "title", "created_at", "updated_at")
    column_sortable_list = ("created_at", "updated_at")
    column_default_sort = ("id", False)
    column_formatters = dict.fromkeys(("created_at", "updated_at"), short_time)
