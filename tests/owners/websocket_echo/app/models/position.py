"""Positions."""

from sqlmodel import Field, SQLModel


class Position(SQLModel, table=True):
    """A position, by its name."""

    id: int | None = Field(default=None, primary_key=True)
    name: str
