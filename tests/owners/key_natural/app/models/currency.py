"""Currencies and prices."""

from sqlmodel import Field, Relationship, SQLModel


class Currency(SQLModel, table=True):
    """A currency."""

    code: str = Field(primary_key=True, max_length=10)
    name: str

    def __str__(self) -> str:
        return self.code


class PriceTag(SQLModel, table=True):
    """A price."""

    __tablename__ = "price_tag"

    id: int | None = Field(default=None, primary_key=True)
    amount: int
    currency_code: str = Field(foreign_key="currency.code")
    currency: Currency = Relationship()
