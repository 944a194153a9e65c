"""Counters."""

from sqlmodel import Field, SQLModel


class Counter(SQLModel, table=True):
    """A number with a name."""

    id: int | None = Field(default=None, primary_key=True)
    label: str = Field(max_length=40)
    value: int = 0

    def __str__(self) -> str:
        return self.label
