"""Bank accounts."""

from sqlalchemy import CheckConstraint
from sqlmodel import Field, SQLModel


class BankAccount(SQLModel, table=True):
    """An account, whose number no made-up row of the tests of migrations would have."""

    __tablename__ = "bank_account"
    __table_args__ = (CheckConstraint("iban ~ '^[A-Z]{2}[0-9]{20}$'", name="iban"),)

    id: int | None = Field(default=None, primary_key=True)
    iban: str = Field(
        unique=True,
        sa_column_kwargs={"info": {"sample": "'DE' || lpad(n::text, 20, '0')"}},
    )
