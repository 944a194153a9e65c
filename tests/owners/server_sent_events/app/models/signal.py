"""Signals."""

from sqlmodel import Field, SQLModel


class Signal(SQLModel, table=True):
    """A signal, by its name."""

    id: int | None = Field(default=None, primary_key=True)
    name: str
