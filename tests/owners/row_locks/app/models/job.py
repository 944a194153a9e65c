"""Jobs."""

from sqlmodel import Field, SQLModel


class Job(SQLModel, table=True):
    """Something to do once."""

    id: int | None = Field(default=None, primary_key=True)
    claims: int = 0
