"""Exhibits."""

from sqlmodel import Field, SQLModel


class ExhibitBase(SQLModel):
    """What an exhibit has."""

    title: str = Field(max_length=100)


class Exhibit(ExhibitBase, table=True):
    """What is shown."""

    id: int | None = Field(default=None, primary_key=True)
