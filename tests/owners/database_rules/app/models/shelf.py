"""Shelves and what is on them."""

from typing import Any

from sqlalchemy import CheckConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel


class Shelf(SQLModel, table=True):
    """A shelf."""

    __table_args__ = (CheckConstraint("height > 0", name="height_positive"),)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    height: int
    note: dict[str, Any] = Field(default_factory=dict, sa_type=JSONB)


class ShelfItem(SQLModel, table=True):
    """What is on it."""

    __tablename__ = "shelf_item"

    id: int | None = Field(default=None, primary_key=True)
    name: str
    shelf_id: int = Field(foreign_key="shelf.id", ondelete="RESTRICT")
