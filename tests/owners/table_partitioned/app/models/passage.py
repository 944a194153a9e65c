"""Passages through doors, in partitions by their time."""

from datetime import datetime

from sqlalchemy import DateTime
from sqlmodel import Field, SQLModel


class Passage(SQLModel, table=True):
    """A passage; PostgreSQL wants the key of the partition in the primary key."""

    __table_args__ = {"postgresql_partition_by": "RANGE (passed_at)"}

    id: int | None = Field(default=None, primary_key=True, sa_column_kwargs={"autoincrement": True})
    passed_at: datetime = Field(primary_key=True, sa_type=DateTime(timezone=True))
    what: str = Field(max_length=50)
