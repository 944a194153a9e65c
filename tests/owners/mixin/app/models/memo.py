"""Memos and chores, which have fields in common."""

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import DateTime, func
from sqlmodel import Field, SQLModel


class Ranked(SQLModel):
    """Key, priority and time of a row."""

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    priority: int = Field(default=5, ge=1, le=9, index=True)
    written_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        nullable=False,
        sa_column_kwargs={"server_default": func.now()},
    )


class Memo(Ranked, table=True):
    """A memo."""

    text: str


class Chore(Ranked, table=True):
    """A chore."""

    room: str
