"""Routes below `/api/mail/bounces`: what is told of mails after they were sent.

Providers report bounces each in a form of their own, by webhook or by mail. A few lines of yours,
or a function at the provider, turn such a report into a request to this one.
"""

from http import HTTPStatus

from fastapi import APIRouter
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.dependencies import SessionDep
from app.extensions.mail.models import (
    BounceKind,
    MailBounceInput,
    MailMessage,
    MailMessageOutput,
    MailState,
    MailSuppression,
)
from app.extensions.mail.outbox import state_message
from kit.errors import Problem
from kit.messages import publish

router = APIRouter(tags=["Mail bounces"])


@router.post("/bounces", response_model=MailMessageOutput)
async def report_bounce(session: SessionDep, bounce: MailBounceInput) -> MailMessage:
    """Note that a mail did not arrive, or was called spam; its address may get no more mail.

    Told twice, it changes nothing the second time.
    """
    mail = await _find_mail(session, bounce.message_id.strip("<> "))
    reason = f"{bounce.kind}: {bounce.diagnostic}".rstrip(": ")
    if bounce.kind is not BounceKind.TRANSIENT:
        await _suppress(session, mail.to_address, reason)
    # Who complains has got the mail.
    if bounce.kind is not BounceKind.COMPLAINT and mail.state != MailState.BOUNCED:
        mail.state, mail.error = MailState.BOUNCED, reason
        await publish(session, *state_message(mail))
    await session.commit()
    return mail


async def _find_mail(session: AsyncSession, message_id: str) -> MailMessage:
    statement = select(MailMessage).where(col(MailMessage.message_id) == message_id)
    mail = (await session.exec(statement.with_for_update())).first()
    if mail is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"No mail has the Message-ID {message_id}.")
    if mail.attempts == 0:
        raise Problem(HTTPStatus.CONFLICT, f"The mail {message_id} was never sent: {mail.state}.")
    return mail


async def _suppress(session: AsyncSession, address: str, reason: str) -> None:
    values = {"address": address.lower(), "reason": reason}
    statement = insert(MailSuppression).values(values).on_conflict_do_nothing()
    await session.exec(statement)
