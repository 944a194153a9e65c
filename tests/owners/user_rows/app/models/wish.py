"""Wishes of customers."""

from sqlmodel import Field, SQLModel


class WishInput(SQLModel):
    """What a customer sends."""

    text: str = Field(max_length=200)


class Wish(WishInput, table=True):
    """A customer's wish."""

    id: int | None = Field(default=None, primary_key=True)
    customer: str = Field(max_length=200, index=True)
