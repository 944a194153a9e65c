"""Tickets."""

from enum import StrEnum

from sqlmodel import Field, SQLModel


class Priority(StrEnum):
    """How urgent a ticket is."""

    LOW = "low"
    HIGH = "high"


class Mood(StrEnum):
    """How its writer feels."""

    UNKNOWN = "unknown"
    CALM = "calm"


class Outcome(StrEnum):
    """How it ended."""

    WON = "won"
    LOST = "lost"


class TicketInput(SQLModel):
    """What a client sends."""

    priority: Priority
    mood: Mood = Mood.UNKNOWN
    outcome: Outcome | None = None


class Ticket(TicketInput, table=True):
    """A ticket."""

    id: int | None = Field(default=None, primary_key=True)
