"""Fees."""

from decimal import Decimal

from sqlalchemy import Numeric
from sqlmodel import Field, SQLModel


class FeeInput(SQLModel):
    """What a client sends."""

    amount: Decimal = Field(ge=0, max_digits=10, decimal_places=2, sa_type=Numeric(10, 2))
    rate: Decimal | None = Field(default=None, max_digits=5, decimal_places=3)


class Fee(FeeInput, table=True):
    """A fee."""

    id: int | None = Field(default=None, primary_key=True)
