"""Tables, whose names begin with the extension's, and what the API takes and gives."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, StringConstraints
from sqlalchemy import BigInteger, DateTime, Index, Text, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field, Relationship, SQLModel

from app.extensions.webhooks.addresses import LONGEST_URL, check_url
from app.extensions.webhooks.encryption import EncryptedSecret
from kit.outbox import DUE_COLUMN

_EVENT_PATTERN = r"^(\*|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(\.\*)?)$"

Event = Annotated[str, StringConstraints(max_length=100, pattern=_EVENT_PATTERN)]
"""A message's name as `hotel.booking-confirmed`, the beginning of names as `hotel.*`, or `*`."""


class DeliveryState(StrEnum):
    """How a delivery is doing. Stored as text, so that a new state needs no migration."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


class WebhookSubscriptionInput(SQLModel):
    """What a caller sends to subscribe."""

    url: Annotated[str, AfterValidator(check_url)] = Field(
        max_length=LONGEST_URL, description="Where messages are sent, https://…"
    )
    events: list[Event] = Field(
        min_length=1,
        max_length=50,
        sa_type=ARRAY(Text),
        description="Messages by name: hotel.booking-confirmed, hotel.* for all of a part, or *.",
    )
    description: str = Field(default="", max_length=200, description="What the receiver is.")
    is_active: bool = Field(default=True, description="Whether messages are sent.")


class WebhookSubscription(WebhookSubscriptionInput, table=True):
    """A receiver and the messages that it wants."""

    __tablename__ = "webhooks_subscription"

    id: int | None = Field(default=None, primary_key=True)
    secret: str = Field(
        sa_type=EncryptedSecret,
        repr=False,
        description="What messages are signed with, as it was given to the receiver",
        sa_column_kwargs={"info": {"sensitive": True}},
    )
    previous_secret: str | None = Field(
        default=None,
        sa_type=EncryptedSecret,
        repr=False,
        description="Signs too, until the receiver knows the new one",
        sa_column_kwargs={"info": {"sensitive": True}},
    )
    previous_secret_until: datetime | None = Field(
        default=None, sa_type=DateTime(timezone=True), description="When the previous one ends"
    )
    dead_letters: int = Field(
        default=0, description="Deliveries given up since the last one that was taken"
    )
    switched_off_because: str | None = Field(
        default=None, max_length=200, description="Empty unless the service did it by itself"
    )
    created_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        nullable=False,
        sa_column_kwargs={"server_default": func.now()},
    )

    def __str__(self) -> str:
        return self.description or self.url


class WebhookDelivery(SQLModel, table=True):
    """One message for one subscription, from the transaction that sent the message on."""

    __tablename__ = "webhooks_delivery"
    __table_args__ = (
        UniqueConstraint("subscription_id", "message_id"),
        Index(None, "state", "id"),
        Index(
            *(None, "subscription_id", "next_attempt_at"),
            postgresql_where=text("state = 'pending'"),
            info={DUE_COLUMN: "next_attempt_at"},
        ),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger)
    subscription_id: int = Field(foreign_key="webhooks_subscription.id", ondelete="CASCADE")
    message_id: str = Field(
        max_length=40, description="`webhook-id`: the same for all subscriptions and attempts"
    )
    event: str = Field(max_length=200, description="The message's name")
    body: str = Field(sa_type=Text, description="JSON, kept as text because its bytes are signed")
    state: str = Field(
        default=DeliveryState.PENDING, max_length=16, description="One of DeliveryState"
    )
    attempts: int = Field(default=0, description="Made so far, the one that runs included")
    next_attempt_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        description="Empty when there will be none; while an attempt runs, when it counts as lost",
    )
    last_attempt_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    last_status: int | None = Field(default=None, description="HTTP status, if there was an answer")
    last_error: str | None = Field(default=None, sa_type=Text)
    created_at: datetime | None = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        nullable=False,
        sa_column_kwargs={"server_default": func.now()},
    )

    subscription: WebhookSubscription = Relationship()

    def __str__(self) -> str:
        return self.message_id


class WebhookSubscriptionOutput(WebhookSubscriptionInput):
    """A subscription, as the API gives it."""

    url: str  # what is stored stays readable when the rule for new ones is a stricter one
    id: int
    dead_letters: int
    switched_off_because: str | None
    previous_secret_until: datetime | None
    created_at: datetime


class WebhookSubscriptionSecret(WebhookSubscriptionOutput):
    """A subscription with its secret, which is shown this once."""

    secret: str


class WebhookDeliveryOutput(SQLModel):
    """A delivery, as the API lists it."""

    id: int
    subscription_id: int
    message_id: str
    event: str
    state: DeliveryState
    attempts: int
    next_attempt_at: datetime | None
    last_attempt_at: datetime | None
    last_status: int | None
    last_error: str | None
    created_at: datetime


class WebhookDeliveryDetails(WebhookDeliveryOutput):
    """A delivery with what is sent."""

    body: str
