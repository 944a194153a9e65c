"""Scales."""

from sqlmodel import Field, SQLModel


class Scale(SQLModel, table=True):
    """What is sent."""

    id: int | None = Field(default=None, primary_key=True)
    weight: float
