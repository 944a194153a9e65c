"""Measurements."""

from decimal import Decimal

from sqlmodel import Field, SQLModel


class Measurement(SQLModel, table=True):
    """What was measured."""

    id: int | None = Field(default=None, primary_key=True)
    weight: float
    price: Decimal = Field(max_digits=10, decimal_places=2)
    count: int
    note: str
