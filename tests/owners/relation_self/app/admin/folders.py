"""Folders in the admin."""

from sqladmin import ModelView

from app.models.folder import Folder


class FolderAdmin(ModelView, model=Folder):
    """Folders."""

    column_list = ("id", "name", "parent", "children")
    column_searchable_list = ("name",)
    column_sortable_list = ("name",)
