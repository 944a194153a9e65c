"""Transfers."""

from sqlmodel import Field, SQLModel


class Transfer(SQLModel, table=True):
    """A transfer."""

    id: int | None = Field(default=None, primary_key=True)
    amount: int
