"""Memos and chores in the admin, which have options in common."""

from sqladmin import ModelView

from app.admin.views import short_time
from app.models.memo import Chore, Memo


class MemoAdmin(ModelView, model=Memo):
    """Memos."""

    column_list = ("text", "priority", "written_at")
    column_sortable_list = ("priority", "written_at")
    column_formatters = dict.fromkeys(("written_at",), short_time)


class ChoreAdmin(ModelView, model=Chore):
    """Chores."""

    column_list = ("room", "priority", "written_at")
    column_sortable_list = ("priority", "written_at")
