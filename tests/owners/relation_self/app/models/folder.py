"""Folders."""

from typing import Optional

from sqlmodel import Field, Relationship, SQLModel


class Folder(SQLModel, table=True):
    """A folder, which may be in another one."""

    id: int | None = Field(default=None, primary_key=True)
    name: str
    parent_id: int | None = Field(default=None, foreign_key="folder.id")
    parent: Optional["Folder"] = Relationship(
        back_populates="children", sa_relationship_kwargs={"remote_side": "Folder.id"}
    )
    children: list["Folder"] = Relationship(back_populates="parent")

    def __str__(self) -> str:
        return self.name
