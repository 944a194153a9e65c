"""Rectangles."""

from sqlalchemy import Computed, Identity
from sqlmodel import Field, SQLModel


class Rectangle(SQLModel, table=True):
    """A rectangle."""

    id: int | None = Field(
        default=None, primary_key=True, sa_column_args=(Identity(always=True, start=1000),)
    )
    width: int
    height: int
    area: int | None = Field(
        default=None, sa_column_args=(Computed("width * height", persisted=True),)
    )
