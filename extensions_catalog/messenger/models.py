"""The messages of both directions, and what the API takes and gives."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import StringConstraints
from sqlalchemy import DateTime, Index, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from kit.outbox import OutboxRow, due_index

LONGEST_ID = 64
"""Of a page or a person; they are numbers of some 17 digits."""

PSID_PATTERN = r"^[0-9]+$"

PageScopedId = Annotated[str, StringConstraints(pattern=PSID_PATTERN, max_length=LONGEST_ID)]

LONGEST_MESSAGE_ID = 512

LONGEST_TEXT = 2000
"""Characters that the platform takes in one message.

https://developers.facebook.com/docs/messenger-platform/reference/send-api
"""


class Direction(StrEnum):
    """Which way a message goes."""

    IN = "in"
    """From a person to the page."""
    OUT = "out"
    """From the page to a person."""


class MessageState(StrEnum):
    """What has become of a message. Stored as text, so that a new state needs no migration."""

    RECEIVED = "received"
    """It came in, and every handler was told."""
    QUEUED = "queued"
    """To be sent, at once or again later."""
    SENDING = "sending"
    """A worker has it."""
    SENT = "sent"
    """The platform has taken it."""
    FAILED = "failed"
    """The platform refused it, or it could not be sent in all attempts."""
    KEPT = "kept"
    """Not sent, because this is a developer's machine without a page's token."""


class MessengerMessage(OutboxRow, table=True):
    """A message, with the person at the other end of its conversation."""

    __tablename__ = "messenger_message"
    __table_args__ = (
        Index(None, "psid", "id"),
        due_index(),
    )

    direction: str = Field(max_length=3, description="One of Direction")
    mid: str | None = Field(
        default=None,
        max_length=LONGEST_MESSAGE_ID,
        unique=True,
        description="The platform's id of the message; none until a reply is sent",
    )
    page_id: str | None = Field(
        default=None, max_length=LONGEST_ID, description="Page that a message came to"
    )
    psid: str = Field(
        max_length=LONGEST_ID, description="The person's page-scoped id; each page knows another"
    )
    text: str = Field(default="", sa_type=Text)
    attachments: list[dict[str, Any]] = Field(
        default_factory=list, sa_type=JSONB, description="As the platform tells of them"
    )
    postback: str | None = Field(
        default=None, sa_type=Text, description="Payload of the button that was pressed"
    )
    state: str = Field(max_length=16, description="One of MessageState")
    sent_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        description="When the person sent it, or the platform took it",
    )

    def __str__(self) -> str:
        return f"{self.direction} {self.psid}: {self.text[:60]}"


class MessengerMessageOutput(SQLModel):
    """A message, as the API gives it."""

    id: int
    direction: Direction
    mid: str | None
    page_id: str | None
    psid: str
    text: str
    attachments: list[dict[str, Any]]
    postback: str | None
    state: MessageState
    attempts: int
    error: str
    created_at: datetime
    sent_at: datetime | None


class MessengerReplyInput(SQLModel):
    """A reply that is to be sent."""

    recipient_id: PageScopedId = Field(
        description="The person's page-scoped id, `sender_id` of what came in."
    )
    text: str = Field(min_length=1, max_length=LONGEST_TEXT)
