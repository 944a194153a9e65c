"""Guests, who have signed the guest book."""

from sqlmodel import Field, SQLModel


class Guest(SQLModel, table=True):
    """A guest's line in the book."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=50)
    stars: int
