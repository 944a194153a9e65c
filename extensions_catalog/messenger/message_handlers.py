"""What the extension does when something has happened: it replies, or has a reply sent."""

from sqlalchemy import func
from sqlmodel import col, select

from app.extensions.messenger.inbox import RECEIVED
from app.extensions.messenger.models import Direction, MessengerMessage
from app.extensions.messenger.outbox import QUEUED, queue_reply
from app.extensions.messenger.settings import messenger_settings
from app.extensions.messenger.tasks import send_due_replies
from kit.messages import Message, call_after_commit, handles


@handles("messenger.reply-requested")
def write_reply(message: Message) -> None:
    """Write the reply that some part of the service wants to be sent."""
    payload = message.payload
    queue_reply(
        message.session, recipient_id=str(payload["recipient_id"]), text=str(payload["text"])
    )


@handles(RECEIVED)
def reply_automatically(message: Message) -> None:
    """Answer with `MESSENGER_AUTO_REPLY`, unless that person has had it within a day."""
    text, psid = messenger_settings.AUTO_REPLY, message.payload["sender_id"]
    if text is None:
        return
    # Two messages of one person at the same moment take turns, or both would be answered.
    message.session.exec(select(func.pg_advisory_xact_lock(func.hashtextextended(psid, 0))))
    answered = select(MessengerMessage.id).where(
        col(MessengerMessage.psid) == psid,
        col(MessengerMessage.direction) == Direction.OUT,
        col(MessengerMessage.text) == text,
        col(MessengerMessage.created_at) > func.now() - func.make_interval(0, 0, 0, 1),
    )
    if message.session.exec(answered.limit(1)).first() is None:
        queue_reply(message.session, recipient_id=psid, text=text)


@handles(QUEUED)
def send_reply(message: Message) -> None:
    """Have a worker send what is due, once the reply is there to be read."""
    call_after_commit(message.session, send_due_replies.delay)
