"""The outbox: a mail is written beside what it tells of, and sent once that is committed."""

import logging
import uuid
from collections.abc import Mapping
from typing import Any

from sqlmodel import Session

from app.extensions.mail.addresses import AddressError, parse_address
from app.extensions.mail.models import LONGEST_ADDRESS, LONGEST_NAME, MailMessage, MailState
from app.extensions.mail.rendering import RenderingError, one_line, render
from app.extensions.mail.settings import mail_settings
from kit.messages import publish_sync
from kit.outbox import LONGEST_ERROR

logger = logging.getLogger(__name__)

QUEUED = "mail.queued"
"""Message that tells of a mail that is to be sent."""


def queue_mail(
    session: Session, template: str, payload: Mapping[str, Any], *, to: object, to_name: str = ""
) -> MailMessage:
    """Write a mail into the outbox, in the session's transaction.

    It never fails its sender: a mail that cannot be made stands in the outbox as failed, with the
    reason and its payload, and can be made again from the admin once its template is mended.

    Args:
        session: The sender's, who commits.
        template: Name of the message whose templates make the mail.
        payload: What they are given; JSON.
        to: The recipient's address.
        to_name: What to call the recipient beside it.
    """
    mail = MailMessage(
        message_id=f"{uuid.uuid4().hex}@{mail_settings.from_domain}",
        template=template,
        to_address=_shortened(str(to), LONGEST_ADDRESS),
        to_name=one_line(to_name)[:LONGEST_NAME],
        payload=dict(payload),
    )
    session.add(mail)
    _queue(session, mail)
    return mail


def queue_again(session: Session, mail: MailMessage) -> None:
    """Make a mail where that has not succeeded yet, and send it as if nobody had tried before.

    Afterwards it is queued, kept or failed. The caller commits.
    """
    mail.queue_again()
    _queue(session, mail)


def state_message(mail: MailMessage) -> tuple[str, dict[str, str]]:
    """Name and payload of the message that tells of a mail's new state."""
    payload = {"message_id": mail.message_id, "template": mail.template}
    return f"mail.{mail.state}", payload | {"address": mail.to_address, "reason": mail.error}


def _queue(session: Session, mail: MailMessage) -> None:
    try:
        mail.to_address = parse_address(mail.to_address)
        if mail.text_body is None:
            mail.subject, mail.text_body, mail.html_body = render(mail.template, mail.payload or {})
            mail.payload = None
    except (AddressError, RenderingError) as error:
        mail.state = MailState.FAILED
        mail.error = _shortened(str(error), LONGEST_ERROR)
        logger.error("the mail for %s cannot be made: %s", mail.template, mail.error)  # noqa: TRY400
        publish_sync(session, *state_message(mail))
        return
    mail.error = ""
    if mail_settings.SMTP_HOST is None:
        mail.state = MailState.KEPT
        return
    mail.state = MailState.QUEUED
    publish_sync(session, *state_message(mail))


def _shortened(text: str, length: int) -> str:
    """The text, cut with a sign that an address cannot hold: what is left is none by accident."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
