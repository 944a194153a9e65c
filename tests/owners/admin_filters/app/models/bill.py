"""Bills and who pays them."""

from datetime import date
from decimal import Decimal
from enum import StrEnum

from sqlmodel import Field, Relationship, SQLModel


class Payer(SQLModel, table=True):
    """Who pays."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=50)
    town: str = Field(max_length=50)

    def __str__(self) -> str:
        return self.name


class BillState(StrEnum):
    """Where a bill stands."""

    OPEN = "open"
    SENT = "sent"


class Bill(SQLModel, table=True):
    """A bill."""

    id: int | None = Field(default=None, primary_key=True)
    number: str = Field(max_length=20, unique=True)
    is_paid: bool = False
    state: BillState = BillState.OPEN
    channel: str = Field(max_length=10)
    total: Decimal = Field(max_digits=10, decimal_places=2)
    issued_on: date
    payer_id: int = Field(foreign_key="payer.id", index=True)
    payer: Payer = Relationship()
