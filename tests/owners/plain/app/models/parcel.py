"""Parcels."""

from sqlmodel import Field, SQLModel


class Parcel(SQLModel, table=True):
    """What is sent."""

    id: int | None = Field(default=None, primary_key=True)
    grams: int
