"""Routes below `/api/mail/messages`, and a mail to try sending with."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel
from sqlmodel import col, select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.extensions.mail.addresses import AddressError, parse_address
from app.extensions.mail.models import MailMessage, MailMessageOutput, MailState, MailTestInput
from app.extensions.mail.settings import mail_settings
from kit.errors import Problem
from kit.messages import publish

LARGEST_ID = 2**63 - 1
"""Of PostgreSQL's `bigint`."""

router = APIRouter(tags=["Mails"])


@router.get("/messages", response_model=list[MailMessageOutput])
async def list_mails(
    session: ReadSessionDep,
    state: MailState | None = None,
    after: Annotated[int, Query(ge=0, le=LARGEST_ID)] = 0,
) -> list[MailMessage]:
    """The mails in the order in which they were queued, a page of them after the mail `after`."""
    statement = select(MailMessage).where(col(MailMessage.id) > after)
    if state is not None:
        statement = statement.where(col(MailMessage.state) == state)
    statement = statement.order_by(col(MailMessage.id)).limit(mail_settings.PAGE_SIZE)
    return list(await session.exec(statement))


@router.get("/messages/{mail_id}", response_model=MailMessageOutput)
async def read_mail(
    session: ReadSessionDep, mail_id: Annotated[int, Path(ge=1, le=LARGEST_ID)]
) -> MailMessage:
    """What has become of one mail."""
    mail = await session.get(MailMessage, mail_id)
    if mail is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no mail {mail_id}.")
    return mail


class RequestedMail(BaseModel):
    """A mail is on its way to this address."""

    to: str


@router.post("/test", status_code=HTTPStatus.ACCEPTED)
async def send_test_mail(session: SessionDep, values: MailTestInput) -> RequestedMail:
    """Send a mail that shows whether the settings are right; `/api/mail/messages` tells."""
    try:
        to = parse_address(values.to)
    except AddressError as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"to: {error}") from None
    await publish(session, "mail.test-requested", {"mail_to": to})
    await session.commit()
    return RequestedMail(to=to)
