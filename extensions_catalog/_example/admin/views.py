"""Views of the extension's tables."""

from typing import ClassVar

from sqladmin import ModelView

from app.extensions._example.models import ExampleNote


class ExampleNoteAdmin(ModelView, model=ExampleNote):
    """Notes."""

    name = "Note"
    name_plural = "Notes"
    icon = "fa-solid fa-note-sticky"
    category = "Example"
    column_list: ClassVar = ["id", "title", "word_count", "created_at"]
    column_searchable_list: ClassVar = ["title"]
    form_excluded_columns: ClassVar = ["word_count", "created_at"]
