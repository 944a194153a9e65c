"""Meters."""

from sqlmodel import Field, SQLModel


class Meter(SQLModel, table=True):
    """What counts."""

    id: int | None = Field(default=None, primary_key=True)
    serial: str = Field(max_length=40, index=True)
