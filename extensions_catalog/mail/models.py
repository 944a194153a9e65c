"""The outbox and the addresses that get no more mail, and what the API takes and gives."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import DateTime, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from kit.outbox import LONGEST_ERROR, OutboxRow, due_index

LONGEST_ADDRESS = 254
"""Characters that an SMTP server takes: RFC 5321, errata 1690."""

LONGEST_NAME = 200


class MailState(StrEnum):
    """What has become of a mail. Stored as text, so that a new state needs no migration."""

    QUEUED = "queued"
    """To be sent, at once or again later."""
    SENDING = "sending"
    """A worker has it."""
    SENT = "sent"
    """The SMTP server has taken it over."""
    BOUNCED = "bounced"
    """Its recipient's address was refused, at once or in a bounce afterwards."""
    FAILED = "failed"
    """It could not be made, or not be sent in all attempts."""
    SUPPRESSED = "suppressed"
    """Not sent, because its recipient's address gets no more mail."""
    KEPT = "kept"
    """Not sent, because this is a developer's machine without an SMTP server."""


class BounceKind(StrEnum):
    """What is told of a mail after it was sent."""

    PERMANENT = "permanent"
    """The address does not exist, or will never take mail."""
    TRANSIENT = "transient"
    """Not delivered, but a later mail may be: a mailbox that is full."""
    COMPLAINT = "complaint"
    """Delivered, and its recipient calls it spam."""


class MailMessage(OutboxRow, table=True):
    """A mail in the outbox, written in the transaction of what it tells of."""

    __tablename__ = "mail_message"
    __table_args__ = (due_index(),)

    message_id: str = Field(
        max_length=320,
        unique=True,
        description="Header Message-ID, without < and >; the same in each attempt",
    )
    template: str = Field(max_length=200, description="Name of the message that it was made for")
    to_address: str = Field(max_length=LONGEST_ADDRESS, description="Recipient's address")
    to_name: str = Field(
        default="", max_length=LONGEST_NAME, description="Name beside that address"
    )
    subject: str = Field(default="", max_length=250)
    text_body: str | None = Field(
        default=None, sa_type=Text, description="Empty when it could not be made"
    )
    html_body: str | None = Field(default=None, sa_type=Text)
    payload: dict[str, Any] | None = Field(
        default=None,
        sa_type=JSONB(none_as_null=True),
        description="What the templates were given; kept only of a mail that could not be made",
    )

    def __str__(self) -> str:
        return f"{self.subject or self.template} to {self.to_address}"


class MailSuppression(SQLModel, table=True):
    """An address that gets no more mail."""

    __tablename__ = "mail_suppression"

    id: int | None = Field(default=None, primary_key=True)
    address: str = Field(max_length=LONGEST_ADDRESS, unique=True, description="In lower case")
    reason: str = Field(default="", max_length=LONGEST_ERROR)
    created_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        nullable=False,
        sa_column_kwargs={"server_default": func.now()},
    )

    def __str__(self) -> str:
        return self.address


class MailMessageOutput(SQLModel):
    """A mail, as the API gives it: what has become of it, not what it says."""

    id: int
    message_id: str
    template: str
    to_address: str
    subject: str
    state: MailState
    attempts: int
    error: str
    created_at: datetime
    sent_at: datetime | None = None


class MailBounceInput(SQLModel):
    """What a mail provider tells of a mail that it could not deliver."""

    message_id: str = Field(
        min_length=3, max_length=322, description="The mail's header Message-ID."
    )
    kind: BounceKind = Field(description="permanent and complaint suppress the address.")
    diagnostic: str = Field(
        default="", max_length=900, description="What the recipient's server said."
    )


class MailTestInput(SQLModel):
    """Where to send a mail that shows that sending works."""

    to: str = Field(max_length=LONGEST_ADDRESS, description="The recipient's address.")
