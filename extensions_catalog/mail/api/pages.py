"""Pages below `/mail`: the outbox, on a developer's machine alone."""

import secrets
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import HTMLResponse
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.config import settings
from app.core.dependencies import ReadSessionDep
from app.core.templates import templates
from app.extensions.mail.api.messages import LARGEST_ID
from app.extensions.mail.models import MailMessage
from app.extensions.mail.preview import html_preview
from app.extensions.mail.settings import mail_settings
from kit.errors import Problem


def only_in_local() -> None:
    """Pages need no principal, and mails are private: elsewhere the admin shows them."""
    if not settings.is_local:
        raise Problem(HTTPStatus.NOT_FOUND, "Not Found")


page_router = APIRouter(include_in_schema=False, dependencies=[Depends(only_in_local)])

MailId = Annotated[int, Path(ge=1, le=LARGEST_ID)]


@page_router.get("/outbox")
async def show_outbox(request: Request, session: ReadSessionDep) -> HTMLResponse:
    """The newest mails."""
    statement = select(MailMessage).order_by(col(MailMessage.id).desc())
    mails = (await session.exec(statement.limit(mail_settings.PAGE_SIZE))).all()
    context = {"mails": mails, "smtp_host": mail_settings.SMTP_HOST}
    return templates.TemplateResponse(request, "mail/outbox.html", context)


@page_router.get("/outbox/{mail_id}")
async def show_mail(request: Request, session: ReadSessionDep, mail_id: MailId) -> HTMLResponse:
    """One mail: its headers, its HTML and its text."""
    mail = await _get_mail(session, mail_id)
    # The policy of pages allows no styles but those of files; a number lets this page's pass.
    context = {"mail": mail, "style_nonce": secrets.token_urlsafe(16)}
    return templates.TemplateResponse(request, "mail/mail.html", context)


@page_router.get("/outbox/{mail_id}/html")
async def show_html(session: ReadSessionDep, mail_id: MailId) -> HTMLResponse:
    """One mail's HTML, for the frame in `show_mail`'s page."""
    return html_preview(await _get_mail(session, mail_id))


async def _get_mail(session: AsyncSession, mail_id: int) -> MailMessage:
    mail = await session.get(MailMessage, mail_id)
    if mail is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no mail {mail_id}.")
    return mail
