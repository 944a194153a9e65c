"""Seats."""

from sqlalchemy import ForeignKeyConstraint
from sqlmodel import Field, Relationship, SQLModel


class Seat(SQLModel, table=True):
    """A seat."""

    aisle: str = Field(primary_key=True, max_length=2)
    number: int = Field(primary_key=True)
    is_window: bool = False

    def __str__(self) -> str:
        return f"{self.aisle} {self.number}"


class Reservation(SQLModel, table=True):
    """Who sits there."""

    __table_args__ = (ForeignKeyConstraint(["aisle", "number"], ["seat.aisle", "seat.number"]),)

    id: int | None = Field(default=None, primary_key=True)
    passenger: str
    aisle: str = Field(max_length=2)
    number: int
    seat: Seat = Relationship()
