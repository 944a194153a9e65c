"""Charges."""

from sqlmodel import Field, SQLModel


class Charge(SQLModel, table=True):
    """A charge, once for each key."""

    id: int | None = Field(default=None, primary_key=True)
    key: str = Field(unique=True, max_length=100)
    cents: int
