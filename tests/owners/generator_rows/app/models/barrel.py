"""Barrels."""

from sqlmodel import Field, SQLModel


class Barrel(SQLModel, table=True):
    """A barrel, by its name."""

    id: int | None = Field(default=None, primary_key=True)
    name: str
