"""Orders."""

from datetime import datetime

from sqlalchemy import DateTime, func
from sqlmodel import Field, SQLModel


class OrderInput(SQLModel):
    """What a caller sends to place an order."""

    number: str = Field(min_length=1, max_length=20, unique=True)
    quantity: int = Field(ge=1, le=1000)


class Order(OrderInput, table=True):
    """An order."""

    __tablename__ = "customer_order"

    id: int | None = Field(default=None, primary_key=True)
    is_packed: bool = False
    placed_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        nullable=False,
        sa_column_kwargs={"server_default": func.now()},
    )

    def __str__(self) -> str:
        return self.number
