"""Badges."""

from uuid import UUID, uuid4

from sqlmodel import Field, SQLModel


class Badge(SQLModel, table=True):
    """A badge."""

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    holder: str
    replaces: UUID | None = None
