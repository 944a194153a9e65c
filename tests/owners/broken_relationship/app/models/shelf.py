"""Shelves and their books."""

from sqlmodel import Field, Relationship, SQLModel


class Shelf(SQLModel, table=True):
    """A shelf."""

    id: int | None = Field(default=None, primary_key=True)
    books: list["Book"] = Relationship(back_populates="shelf")


class Book(SQLModel, table=True):
    """A book; the name of the other side is misspelt."""

    id: int | None = Field(default=None, primary_key=True)
    shelf_id: int = Field(foreign_key="shelf.id")
    shelf: Shelf = Relationship(back_populates="boks")
