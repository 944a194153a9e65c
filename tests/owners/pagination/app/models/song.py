"""Songs."""

from sqlmodel import Field, SQLModel


class Song(SQLModel, table=True):
    """A song."""

    id: int | None = Field(default=None, primary_key=True)
    title: str
