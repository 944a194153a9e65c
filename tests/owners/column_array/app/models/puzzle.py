"""Puzzles."""

from sqlalchemy import ARRAY, Integer, String
from sqlmodel import Field, SQLModel


class Puzzle(SQLModel, table=True):
    """A puzzle."""

    id: int | None = Field(default=None, primary_key=True)
    name: str
    words: list[str] = Field(default_factory=list, sa_type=ARRAY(String))
    scores: list[int] = Field(sa_type=ARRAY(Integer))
    hints: list[str] | None = Field(default=None, sa_type=ARRAY(String))
