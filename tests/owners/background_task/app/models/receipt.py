"""Receipts."""

from sqlmodel import Field, SQLModel


class Receipt(SQLModel, table=True):
    """A receipt, by its name."""

    id: int | None = Field(default=None, primary_key=True)
    name: str
