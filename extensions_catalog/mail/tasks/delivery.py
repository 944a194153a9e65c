"""Sending what is due in the outbox.

A mail is claimed in a transaction of its own before the server is spoken to, so that no two
workers send it, and no connection to the database is held meanwhile. A second transaction notes
what became of it. A worker that is lost in between leaves the mail claimed until the claim ends,
and then it is sent again. The server may have taken it already: rather twice than not at all. Both
carry the same Message-ID, by which many receivers drop the second.
"""

import logging
import random
import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import exists, func
from sqlmodel import Session, col, select

from app.core.celery import celery_app
from app.core.config import settings
from app.core.database import sync_session_maker
from app.core.task_context import get_task_id
from app.extensions.mail.models import LONGEST_ERROR, MailMessage, MailState, MailSuppression
from app.extensions.mail.outbox import state_message
from app.extensions.mail.settings import mail_settings
from app.extensions.mail.smtp import Outcome, SmtpSession
from kit.errors import first_line, is_outage
from kit.messages import publish_sync

logger = logging.getLogger(__name__)

RUN_SECONDS = 30
"""After which a run leaves the rest to another one, so that other tasks get their turn."""

CLAIM_MARGIN_SECONDS = 60
"""By how much a claim outlasts `MAIL_SEND_TIMEOUT`."""

FIRST_PAUSE_SECONDS = 60
LONGEST_PAUSE_SECONDS = 4 * 3600

NOTE_PAUSES_SECONDS = (0.5, 3, 10)
"""Before further tries to note an outcome, while the database is away."""

_DUE = (
    select(
        MailMessage,
        exists().where(col(MailSuppression.address) == func.lower(MailMessage.to_address)),
    )
    .where(
        col(MailMessage.state).in_((MailState.QUEUED, MailState.SENDING)),
        col(MailMessage.due_at) <= func.now(),
    )
    .order_by(col(MailMessage.due_at), col(MailMessage.id))
    .limit(1)
    .with_for_update(skip_locked=True, of=MailMessage)
)


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.mail.send_due", ignore_result=True)
def send_due_mail() -> int:
    """Send the mails that are due; gives how many of them the server took."""
    if mail_settings.SMTP_HOST is None:
        return 0
    sent = 0
    end = time.monotonic() + RUN_SECONDS
    with SmtpSession(mail_settings) as smtp:
        while mail := claim_mail():
            outcome = smtp.send(mail)
            note_outcome(mail, outcome)
            sent += outcome.state is MailState.SENT
            if not outcome.server_works:
                logger.warning("%sthe SMTP server takes no mail: %s", get_task_id(), outcome.reason)
                break  # the others keep their attempts for when it does
            if time.monotonic() > end:
                send_due_mail.delay()
                break
    return sent


def claim_mail() -> MailMessage | None:
    """The mail that has been due longest; it is nobody else's until the claim ends.

    Due ones that are not to be sent are settled on the way: their address is suppressed, or the
    worker of their last attempt was lost.
    """
    while True:
        with sync_session_maker() as session:
            due = session.exec(_DUE).first()
            if due is None:
                return None
            mail, is_suppressed = due
            if mail.state == MailState.SENDING:
                _log(logging.WARNING, mail, "its worker was lost, maybe after sending it")
            if is_suppressed:
                mail.state, mail.error = MailState.SUPPRESSED, "the address gets no more mail"
            elif mail.attempts >= mail_settings.MAX_ATTEMPTS:
                _end(session, mail, MailState.FAILED, "the worker of the last attempt was lost")
            else:
                mail.state, mail.attempts = MailState.SENDING, mail.attempts + 1
                mail.due_at = _in(mail_settings.SEND_TIMEOUT + CLAIM_MARGIN_SECONDS)
            session.commit()
            if mail.state == MailState.SENDING:
                return mail


def note_outcome(mail: MailMessage, outcome: Outcome) -> None:
    """Note what became of a claimed mail.

    Tried again for some seconds while the database is away: a mail that was sent and is not noted
    as sent would be sent once more.
    """
    for pause in NOTE_PAUSES_SECONDS:
        try:
            _note_outcome(mail, outcome)
        except Exception as error:
            if not is_outage(error):
                raise
            _log(logging.WARNING, mail, f"cannot be noted as {outcome.state}: {first_line(error)}")
            time.sleep(pause)
        else:
            return
    _note_outcome(mail, outcome)


def pause_after(attempts: int) -> float:
    """Seconds until the next attempt: a minute, four, and so on up to four hours.

    A fifth more or less, so that what failed together does not come back together.
    """
    pause = min(FIRST_PAUSE_SECONDS * 4.0 ** (attempts - 1), LONGEST_PAUSE_SECONDS)
    return pause * random.uniform(0.8, 1.2)  # noqa: S311 (nothing to guess)


def _note_outcome(claimed: MailMessage, outcome: Outcome) -> None:
    still_ours = (
        select(MailMessage)
        .where(
            col(MailMessage.id) == claimed.id,
            col(MailMessage.state) == MailState.SENDING,
            col(MailMessage.attempts) == claimed.attempts,
        )
        .with_for_update()
    )
    with sync_session_maker() as session:
        mail = session.exec(still_ours).first()
        if mail is None:  # a bounce was quicker, or the claim has ended
            _log(logging.INFO, claimed, f"{outcome.state}, but no longer this worker's")
            return
        mail.error = outcome.reason[:LONGEST_ERROR]
        if outcome.state is MailState.SENT:
            mail.state, mail.sent_at = MailState.SENT, datetime.now(UTC)
        elif outcome.state is not MailState.QUEUED:
            _end(session, mail, outcome.state, mail.error)
        elif mail.attempts >= mail_settings.MAX_ATTEMPTS:
            _end(session, mail, MailState.FAILED, mail.error)
        else:
            mail.state, mail.due_at = MailState.QUEUED, _in(pause_after(mail.attempts))
        session.commit()
        _log(logging.INFO, mail, f"{mail.state} after attempt {mail.attempts}")


def _end(session: Session, mail: MailMessage, state: MailState, reason: str) -> None:
    """Give a mail up, and tell those who want to know."""
    mail.state, mail.error = state, reason
    publish_sync(session, *state_message(mail))


def _in(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def _log(level: int, mail: MailMessage, what: str) -> None:
    # Without addresses, which the server's answers hold too: more people read logs than the outbox.
    logger.log(level, "%smail %s: %s", get_task_id(), mail.message_id, what)
