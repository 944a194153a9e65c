"""Pallets."""

from sqlmodel import Field, SQLModel


class Pallet(SQLModel, table=True):
    """A pallet, by its name."""

    id: int | None = Field(default=None, primary_key=True)
    name: str
