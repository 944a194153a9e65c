"""Sightings."""

from datetime import datetime

from pydantic import NaiveDatetime
from sqlalchemy import DateTime, func
from sqlmodel import Field, SQLModel


class Sighting(SQLModel, table=True):
    """A bird that was seen."""

    id: int | None = Field(default=None, primary_key=True)
    bird: str
    seen_at: datetime = Field(sa_type=DateTime(timezone=True))
    noted_at: datetime | None = None
    local_at: NaiveDatetime | None = None
    stored_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        nullable=False,
        sa_column_kwargs={"server_default": func.clock_timestamp()},
    )
    stored_here_at: NaiveDatetime | None = Field(
        default=None, nullable=False, sa_column_kwargs={"server_default": func.localtimestamp()}
    )
