"""Sending what is due in the outbox.

A mail that is sent twice, because its worker was lost in between, carries the same Message-ID both
times, by which many receivers drop the second.
"""

from sqlalchemy import func
from sqlmodel import Session, col, select

from app.core.celery import celery_app
from app.core.config import settings
from app.extensions.mail.models import MailMessage, MailState, MailSuppression
from app.extensions.mail.outbox import state_message
from app.extensions.mail.settings import mail_settings
from app.extensions.mail.smtp import SmtpSession
from kit.messages import publish_sync
from kit.outbox import Outbox, Outcome

LEASE_MARGIN_SECONDS = 60
"""By how much a lease outlasts `MAIL_SEND_TIMEOUT`."""


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.mail.send_due", ignore_result=True)
def send_due_mail() -> int:
    """Send the mails that are due; gives how many of them the server took."""
    if mail_settings.SMTP_HOST is None:
        return 0
    with SmtpSession(mail_settings) as smtp:
        return mail_outbox().send_due(smtp.send, again=send_due_mail.delay)


def mail_outbox() -> Outbox[MailMessage]:
    """The outbox, as the settings have it."""
    return Outbox(
        MailMessage,
        lease=mail_settings.SEND_TIMEOUT + LEASE_MARGIN_SECONDS,
        max_attempts=mail_settings.MAX_ATTEMPTS,
        first_pause=60,
        longest_pause=4 * 3600,
        # Without addresses: more people read logs than the outbox.
        label=lambda mail: f"mail {mail.message_id}",
        refuse=_refuse_suppressed,
        ended=_report,
    )


def _refuse_suppressed(session: Session, mail: MailMessage) -> Outcome | None:
    suppressed = select(MailSuppression.id).where(
        col(MailSuppression.address) == func.lower(mail.to_address)
    )
    if session.exec(suppressed).first() is None:
        return None
    return Outcome(MailState.SUPPRESSED, "the address gets no more mail")


def _report(session: Session, mail: MailMessage) -> None:
    if mail.state in (MailState.BOUNCED, MailState.FAILED):
        publish_sync(session, *state_message(mail))
