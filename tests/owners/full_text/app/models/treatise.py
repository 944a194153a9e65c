"""Treatises, which are found by their words."""

from typing import Any, ClassVar

from sqlalchemy import Column, Computed, Index, Text, text
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlmodel import Field, SQLModel

WORDS = (
    "setweight(to_tsvector('english', title), 'A') || "
    "setweight(to_tsvector('english', body), 'B') || "
    "setweight(to_tsvector('simple', author), 'C')"
)


class TreatiseInput(SQLModel):
    """What an author sends."""

    title: str = Field(min_length=1, max_length=200)
    body: str = Field(sa_type=Text, max_length=100_000)
    author: str = Field(min_length=1, max_length=80)


class Treatise(TreatiseInput, table=True):
    """A treatise; of those that are not withdrawn each title is there once."""

    __table_args__: ClassVar[Any] = (
        Index("ix_treatise_words", "words", postgresql_using="gin"),
        Index("uq_treatise_title", "title", unique=True, postgresql_where=text("NOT is_withdrawn")),
    )

    id: int | None = Field(default=None, primary_key=True)
    is_withdrawn: bool = Field(default=False)
    words: str | None = Field(
        default=None, exclude=True, sa_column=Column(TSVECTOR, Computed(WORDS, persisted=True))
    )
