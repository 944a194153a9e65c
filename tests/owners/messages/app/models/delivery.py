"""Deliveries, and notes about them."""

from sqlmodel import Field, SQLModel


class Delivery(SQLModel, table=True):
    """Something under way."""

    id: int | None = Field(default=None, primary_key=True)
    street: str


class DeliveryNote(SQLModel, table=True):
    """What was noted about one."""

    __tablename__ = "delivery_note"

    id: int | None = Field(default=None, primary_key=True)
    text: str
