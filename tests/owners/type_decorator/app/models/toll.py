"""Tolls."""

from decimal import Decimal

from sqlalchemy import BigInteger, Dialect
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel


class Cents(TypeDecorator[Decimal]):
    """An amount, stored as a whole number of cents."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        """What the database gets."""
        del dialect
        return None if value is None else int(value * 100)

    def process_result_value(self, value: int | None, dialect: Dialect) -> Decimal | None:
        """What the model gets."""
        del dialect
        return None if value is None else Decimal(value).scaleb(-2)


class Toll(SQLModel, table=True):
    """A toll."""

    id: int | None = Field(default=None, primary_key=True)
    amount: Decimal = Field(sa_type=Cents, decimal_places=2)
    discount: Decimal | None = Field(default=None, sa_type=Cents)
