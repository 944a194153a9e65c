"""Readings of meters."""

from sqlmodel import Field, SQLModel


class Reading(SQLModel, table=True):
    """What a meter showed."""

    id: int | None = Field(default=None, primary_key=True)
    number: int = Field(unique=True)
    meter: str
    value: float
