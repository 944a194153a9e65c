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
    column_list: ClassVar = [
        ExampleNote.id,
        ExampleNote.title,
        ExampleNote.word_count,
        ExampleNote.created_at,
    ]
    column_searchable_list: ClassVar = [ExampleNote.title]
    form_excluded_columns: ClassVar = [ExampleNote.word_count, ExampleNote.created_at]
