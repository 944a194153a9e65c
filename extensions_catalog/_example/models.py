"""Tables, named after the extension, and the forms that the API accepts and returns."""

from datetime import datetime

from sqlalchemy import DateTime, func
from sqlmodel import Field, SQLModel


class ExampleNoteInput(SQLModel):
    """A note, as a caller sends it."""

    title: str = Field(min_length=1, max_length=200, description="One line.")
    body: str = Field(default="", max_length=10_000, description="The text itself.")


class ExampleNote(ExampleNoteInput, table=True):
    """A note."""

    __tablename__ = "example_note"

    id: int | None = Field(default=None, primary_key=True)
    word_count: int | None = Field(
        default=None, description="Words of the text; empty until the task has counted them."
    )
    created_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        nullable=False,
        sa_column_kwargs={"server_default": func.now()},
    )

    def __str__(self) -> str:
        return self.title


class ExampleNoteOutput(ExampleNoteInput):
    """A note, as the API returns it."""

    id: int
    word_count: int | None = None
    created_at: datetime
