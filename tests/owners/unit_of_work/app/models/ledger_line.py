"""Lines of the ledger."""

from sqlmodel import Field, SQLModel


class LedgerLine(SQLModel, table=True):
    """A line of the ledger."""

    id: int | None = Field(default=None, primary_key=True)
    name: str
