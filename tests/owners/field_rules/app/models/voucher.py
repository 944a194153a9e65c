"""Vouchers."""

from typing import Annotated

from pydantic import StringConstraints, field_validator
from sqlmodel import Field, SQLModel


class Voucher(SQLModel, table=True):
    """A voucher."""

    id: int | None = Field(default=None, primary_key=True)
    code: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}-\d{3}$")]
    percent: int = Field(ge=1, le=100)
    label: str = Field(max_length=20)
    note: str | None = None

    @field_validator("note")
    @classmethod
    def nothing_is_free(cls, value: str | None) -> str | None:
        """Refuse what cannot be.

        Raises:
            ValueError: when the note promises it.
        """
        if value and "free" in value:
            raise ValueError("Nothing is free.")
        return value
