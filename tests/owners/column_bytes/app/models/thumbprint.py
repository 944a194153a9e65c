"""Thumbprints."""

from sqlmodel import Field, SQLModel


class Thumbprint(SQLModel, table=True):
    """A thumbprint."""

    id: int | None = Field(default=None, primary_key=True)
    data: bytes
    digest: bytes | None = Field(default=None, max_length=32)
