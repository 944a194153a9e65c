"""Prices, and the lines of price lists that are still to be imported."""

from decimal import Decimal

from sqlmodel import Field, SQLModel


class PriceInput(SQLModel):
    """What a line of a list says."""

    article: str = Field(min_length=1, max_length=20, primary_key=True)
    amount: Decimal = Field(ge=0, max_digits=10, decimal_places=2)


class Price(PriceInput, table=True):
    """The price of an article."""


class PriceList(SQLModel, table=True):
    """A list that somebody has sent."""

    __tablename__ = "price_list"

    id: int | None = Field(default=None, primary_key=True)
    name: str
    lines: int = 0


class PriceLine(SQLModel, table=True):
    """A line of a list that is not imported yet or, with a mistake, cannot be."""

    __tablename__ = "price_line"

    list_id: int = Field(primary_key=True, foreign_key="price_list.id", ondelete="CASCADE")
    number: int = Field(primary_key=True)
    text: str
    mistake: str | None = None
