"""A model with a column that no database has."""

from sqlmodel import Field, SQLModel


class Plant(SQLModel, table=True):
    """A plant."""

    id: int | None = Field(default=None, primary_key=True)
    leaves: set[int]
