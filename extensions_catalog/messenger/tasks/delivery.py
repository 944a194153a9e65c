"""Sending what is due in the outbox.

The Send API has no way to ask whether a reply was taken, nor a key by which it would know one that
it has: one whose worker was lost is sent again, rather twice than not at all.
"""

from sqlmodel import Session

from app.core.celery import celery_app
from app.core.config import settings
from app.extensions.messenger.models import MessengerMessage
from app.extensions.messenger.outbox import state_message
from app.extensions.messenger.send_api import SendApi
from app.extensions.messenger.settings import messenger_settings
from kit.messages import publish_sync
from kit.outbox import Outbox

LEASE_SECONDS = 300
"""More than connecting, writing and reading take, each up to `MESSENGER_SEND_TIMEOUT`."""


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.messenger.send_due", ignore_result=True)
def send_due_replies() -> int:
    """Send the replies that are due; gives how many of them the platform took."""
    if messenger_settings.PAGE_TOKEN is None:
        return 0
    with SendApi(messenger_settings, messenger_settings.PAGE_TOKEN) as send_api:
        return reply_outbox().send_due(send_api.send, again=send_due_replies.delay)


def reply_outbox() -> Outbox[MessengerMessage]:
    """The outbox, as the settings have it."""
    return Outbox(
        MessengerMessage,
        lease=LEASE_SECONDS,
        max_attempts=messenger_settings.MAX_ATTEMPTS,
        first_pause=15,
        longest_pause=3600,
        # Without the person: more people read logs than the outbox.
        label=lambda reply: f"reply {reply.id}",
        ended=_report,
    )


def _report(session: Session, reply: MessengerMessage) -> None:
    publish_sync(session, *state_message(session, reply))
