"""Coins."""

from sqlmodel import Field, SQLModel


class Coin(SQLModel, table=True):
    """A coin."""

    id: int | None = Field(default=None, primary_key=True)
    name: str
    worth: int
