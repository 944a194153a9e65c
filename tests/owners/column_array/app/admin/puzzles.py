"""Puzzles in the admin."""

from sqladmin import ModelView

from app.models.puzzle import Puzzle


class PuzzleAdmin(ModelView, model=Puzzle):
    """Puzzles."""

    column_list = ("id", "name", "words", "scores", "hints")
    column_searchable_list = ("name", "words")
    column_sortable_list = ("words", "scores")
