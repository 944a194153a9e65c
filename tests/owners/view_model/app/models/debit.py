"""Debits."""

from decimal import Decimal

from sqlmodel import Field, SQLModel


class Debit(SQLModel, table=True):
    """What a customer owes for one thing."""

    id: int | None = Field(default=None, primary_key=True)
    customer_id: int
    total: Decimal = Field(max_digits=10, decimal_places=2)
