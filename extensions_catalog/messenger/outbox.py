"""The outbox: a reply is written beside what it answers, and sent once that is committed."""

import re

from sqlmodel import Session

from app.extensions.messenger.models import (
    LONGEST_ID,
    LONGEST_TEXT,
    PSID_PATTERN,
    Direction,
    MessageState,
    MessengerMessage,
)
from app.extensions.messenger.settings import messenger_settings
from kit.messages import publish_sync

QUEUED = "messenger.queued"
"""Message that tells of a reply that is to be sent."""


def queue_reply(session: Session, *, recipient_id: str, text: str) -> MessengerMessage:
    """Write a reply into the outbox, in the session's transaction.

    A text that the platform would not take stands there as failed, with the reason.

    Args:
        session: The sender's, who commits.
        recipient_id: The person's page-scoped id.
        text: Plain text.

    Raises:
        ValueError: when the id cannot be one.
    """
    if not re.fullmatch(PSID_PATTERN, recipient_id) or len(recipient_id) > LONGEST_ID:
        raise ValueError(f"recipient_id is {recipient_id!r}, expected a page-scoped id: digits")
    reply = MessengerMessage(
        direction=Direction.OUT, psid=recipient_id, text=text, state=MessageState.QUEUED
    )
    session.add(reply)
    queue_again(session, reply)
    return reply


def queue_again(session: Session, reply: MessengerMessage) -> None:
    """Send a reply as if nobody had tried before; afterwards it is queued, kept or failed.

    The caller commits.
    """
    reply.queue_again()
    if not 0 < len(reply.text) <= LONGEST_TEXT:
        reply.state = MessageState.FAILED
        reply.error = f"the text has {len(reply.text)} characters, expected 1 to {LONGEST_TEXT}"
        publish_sync(session, *state_message(session, reply))
    elif messenger_settings.PAGE_TOKEN is None:
        reply.state = MessageState.KEPT
    else:
        publish_sync(session, *state_message(session, reply))


def state_message(session: Session, reply: MessengerMessage) -> tuple[str, dict[str, object]]:
    """Name and payload of the message that tells of a reply's new state."""
    session.flush()  # which gives a new reply its id
    payload: dict[str, object] = {
        "message_id": reply.id,
        "mid": reply.mid,
        "recipient_id": reply.psid,
    }
    return f"messenger.{reply.state}", payload | {"reason": reply.error}
