"""Wallets."""

from sqlmodel import Field, SQLModel


class Wallet(SQLModel, table=True):
    """Money."""

    id: int | None = Field(default=None, primary_key=True)
    balance: int
