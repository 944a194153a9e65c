"""Booths."""

from sqlalchemy import CheckConstraint, UniqueConstraint
from sqlmodel import Field, SQLModel


class Booth(SQLModel, table=True):
    """A booth at a fair."""

    __table_args__ = (
        UniqueConstraint("hall", "place"),
        CheckConstraint("closes > opens", name="closes_later"),
    )

    id: int | None = Field(default=None, primary_key=True)
    hall: str
    place: int
    opens: int
    closes: int
