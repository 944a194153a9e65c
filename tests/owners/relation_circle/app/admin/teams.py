"""The admin's views of teams and players."""

from typing import ClassVar

from sqladmin import ModelView

from app.models.team import Player, Team


class TeamAdmin(ModelView, model=Team):
    """Teams."""

    column_list = ("name", "captain", "players")
    form_columns: ClassVar = ["name", "captain"]


class PlayerAdmin(ModelView, model=Player):
    """Players."""

    column_list = ("name", "team")
    form_columns: ClassVar = ["name", "team"]
