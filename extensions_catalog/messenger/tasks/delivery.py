"""Sending what is due in the outbox.

A reply is claimed in a transaction of its own before the platform is spoken to, so that no two
workers send it, and no connection to the database is held meanwhile. A second transaction notes
what became of it. A worker that is lost in between leaves the reply claimed until the claim ends,
and then it is sent again. The platform may have taken it already, and has no way to ask: rather
twice than not at all.
"""

import logging
import random
import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import func
from sqlmodel import col, select

from app.core.celery import celery_app
from app.core.config import settings
from app.core.database import sync_session_maker
from app.core.task_context import get_task_id
from app.extensions.messenger.models import LONGEST_ERROR, MessageState, MessengerMessage
from app.extensions.messenger.outbox import state_message
from app.extensions.messenger.send_api import Outcome, SendApi
from app.extensions.messenger.settings import messenger_settings
from kit.errors import first_line, is_outage
from kit.messages import publish_sync

logger = logging.getLogger(__name__)

RUN_SECONDS = 30
"""After which a run leaves the rest to another one, so that other tasks get their turn."""

CLAIM_SECONDS = 300
"""More than connecting, writing and reading take, each up to `MESSENGER_SEND_TIMEOUT`."""

FIRST_PAUSE_SECONDS = 15
LONGEST_PAUSE_SECONDS = 3600

NOTE_PAUSES_SECONDS = (0.5, 3, 10)
"""Before further tries to note an outcome, while the database is away."""

_DUE = (
    select(MessengerMessage)
    .where(
        col(MessengerMessage.state).in_((MessageState.QUEUED, MessageState.SENDING)),
        col(MessengerMessage.due_at) <= func.now(),
    )
    .order_by(col(MessengerMessage.due_at), col(MessengerMessage.id))
    .limit(1)
    .with_for_update(skip_locked=True)
)


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.messenger.send_due", ignore_result=True)
def send_due_replies() -> int:
    """Send the replies that are due; gives how many of them the platform took."""
    if messenger_settings.PAGE_TOKEN is None:
        return 0
    sent = 0
    end = time.monotonic() + RUN_SECONDS
    with SendApi(messenger_settings, messenger_settings.PAGE_TOKEN) as send_api:
        while reply := claim_reply():
            outcome = send_api.send(reply)
            note_outcome(reply, outcome)
            sent += outcome.state is MessageState.SENT
            if time.monotonic() > end:
                send_due_replies.delay()
                break
    return sent


def claim_reply() -> MessengerMessage | None:
    """The reply that has been due longest; it is nobody else's until the claim ends.

    One whose worker was lost in its last attempt is settled on the way.
    """
    while True:
        with sync_session_maker() as session:
            reply = session.exec(_DUE).first()
            if reply is None:
                return None
            if reply.attempts >= messenger_settings.MAX_ATTEMPTS:
                reply.state = MessageState.FAILED
                reply.error = "the worker of the last attempt was lost"
                publish_sync(session, *state_message(session, reply))
            else:
                reply.state, reply.attempts = MessageState.SENDING, reply.attempts + 1
                reply.due_at = _in(CLAIM_SECONDS)
            session.commit()
            if reply.state == MessageState.SENDING:
                return reply


def note_outcome(reply: MessengerMessage, outcome: Outcome) -> None:
    """Note what became of a claimed reply.

    Tried again for some seconds while the database is away: a reply that was sent and is not noted
    as sent would be sent once more.
    """
    for pause in NOTE_PAUSES_SECONDS:
        try:
            _note_outcome(reply, outcome)
        except Exception as error:
            if not is_outage(error):
                raise
            _log(logging.WARNING, reply, f"cannot be noted: {first_line(error)}")
            time.sleep(pause)
        else:
            return
    _note_outcome(reply, outcome)


def pause_after(attempts: int) -> float:
    """Seconds until the next attempt: 15, a minute, and so on up to an hour.

    A fifth more or less, so that what failed together does not come back together.
    """
    pause = min(FIRST_PAUSE_SECONDS * 4.0 ** (attempts - 1), LONGEST_PAUSE_SECONDS)
    return pause * random.uniform(0.8, 1.2)  # noqa: S311 (nothing to guess)


def _note_outcome(claimed: MessengerMessage, outcome: Outcome) -> None:
    still_ours = (
        select(MessengerMessage)
        .where(
            col(MessengerMessage.id) == claimed.id,
            col(MessengerMessage.state) == MessageState.SENDING,
            col(MessengerMessage.attempts) == claimed.attempts,
        )
        .with_for_update()
    )
    with sync_session_maker() as session:
        reply = session.exec(still_ours).first()
        if reply is None:  # the claim has ended, and another worker has it
            _log(logging.WARNING, claimed, f"{outcome.state}, but no longer this worker's")
            return
        reply.error = outcome.reason[:LONGEST_ERROR]
        if outcome.state is MessageState.SENT:
            reply.state, reply.mid = MessageState.SENT, outcome.mid
            reply.sent_at = datetime.now(UTC)
        elif (
            outcome.state is MessageState.FAILED
            or reply.attempts >= messenger_settings.MAX_ATTEMPTS
        ):
            reply.state = MessageState.FAILED
        else:
            reply.state, reply.due_at = MessageState.QUEUED, _in(pause_after(reply.attempts))
        if reply.state != MessageState.QUEUED:
            publish_sync(session, *state_message(session, reply))
        session.commit()
        _log(logging.INFO, reply, f"{reply.state} after attempt {reply.attempts}")


def _in(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def _log(level: int, reply: MessengerMessage, what: str) -> None:
    # Without the person and the platform's answer: more people read logs than the outbox.
    logger.log(level, "%sreply %s: %s", get_task_id(), reply.id, what)
