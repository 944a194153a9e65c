"""Recipes."""

from datetime import date, time, timedelta

from sqlmodel import Field, SQLModel


class RecipeInput(SQLModel):
    """What a client sends."""

    name: str
    baking: timedelta
    rest: timedelta | None = None
    first_baked: date
    served_at: time | None = None


class Recipe(RecipeInput, table=True):
    """A recipe."""

    id: int | None = Field(default=None, primary_key=True)
