"""Crates, which are weighed in the background."""

from decimal import Decimal

from sqlmodel import Field, SQLModel


class Crate(SQLModel, table=True):
    """One crate."""

    __tablename__ = "crate"

    id: int | None = Field(default=None, primary_key=True)
    label: str = Field(max_length=20, unique=True)
    weight: Decimal | None = Field(default=None, max_digits=8, decimal_places=3)
