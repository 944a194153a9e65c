"""Views of the outbox and of the addresses that get no more mail."""

from http import HTTPStatus
from typing import Any

import anyio.to_thread
from fastapi import HTTPException
from markupsafe import Markup
from sqladmin import ModelView, action, expose
from sqlmodel import col, select
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from app.extensions.mail.addresses import parse_address
from app.extensions.mail.models import MailMessage, MailState, MailSuppression
from app.extensions.mail.outbox import queue_again
from app.extensions.mail.preview import html_preview
from kit.admin import (
    DateRangeFilter,
    EnumFilterBase,
    chosen_keys,
    return_to_list,
    short_time,
)

SENT_OR_ABOUT_TO_BE = (MailState.QUEUED, MailState.SENDING, MailState.SENT)


def preview_frame(mail: Any, _: str) -> Markup | str:
    """A formatter: the mail's HTML in a frame that lets nothing of it out."""
    if mail.html_body is None:
        return ""
    return Markup(
        '<iframe src="../html/{}" sandbox title="HTML" width="640" height="420"></iframe>'
    ).format(mail.id)


class MailStateFilter(EnumFilterBase):
    """What has become of a mail."""

    enum = MailState


class MailMessageAdmin(ModelView, model=MailMessage):
    """Mails, which the service alone writes; those that were not sent can be sent again."""

    name = "Mail"
    name_plural = "Outbox"
    icon = "fa-solid fa-envelope"
    category = "Mail"
    category_icon = "fa-solid fa-envelope"
    can_create = can_edit = can_delete = False
    column_list = ("id", "state", "to_address", "subject", "created_at", "sent_at")
    column_details_list = (
        *("state", "error", "attempts", "created_at", "due_at", "sent_at", "message_id"),
        *("template", "to_name", "to_address", "subject", "text_body", "html_body", "payload"),
    )
    column_labels = {
        "id": "No.",
        "message_id": "Message-ID",
        "to_address": "To",
        "to_name": "Recipient",
        "created_at": "Queued",
        "sent_at": "Sent",
        "text_body": "Text",
        "html_body": "HTML",
    }
    column_searchable_list = ("to_address", "subject", "message_id")
    column_sortable_list = ("id", "to_address", "created_at", "sent_at")
    column_default_sort = ("id", True)
    column_filters = (
        MailStateFilter(MailMessage.state, title="State"),
        DateRangeFilter(MailMessage.created_at, title="Queued"),
    )
    column_formatters = dict.fromkeys(("created_at", "sent_at"), short_time)
    column_formatters_detail = {
        **dict.fromkeys(("created_at", "due_at", "sent_at"), short_time),
        "text_body": lambda mail, _: Markup("<pre>{}</pre>").format(mail.text_body or ""),
        "html_body": preview_frame,
    }
    can_export = False

    @action(
        name="send-again",
        label="Send again",
        confirmation_message="Make and send those that were not sent, as if for the first time?",
    )
    async def send_again(self, request: Request) -> RedirectResponse:
        """Queue the chosen mails anew, but for those that are sent or about to be."""
        states = await anyio.to_thread.run_sync(self._queue_again, chosen_keys(request))
        told = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        return return_to_list(self, request, told or "None of them can be sent again")

    @expose("/html/{pk}", include_in_schema=False)
    async def show_html(self, request: Request) -> Response:
        """The HTML of one mail, for the frame among its details."""
        mail = await self.get_object_for_details(request)
        if mail is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return html_preview(mail)

    def _queue_again(self, ids: list[int]) -> list[str]:
        """States of the mails afterwards."""
        statement = select(MailMessage).where(
            col(MailMessage.id).in_(ids), col(MailMessage.state).not_in(SENT_OR_ABOUT_TO_BE)
        )
        with self.session_maker() as session:
            mails = session.exec(statement.with_for_update()).all()
            for mail in mails:
                queue_again(session, mail)
            session.commit()
            return [mail.state for mail in mails]


class MailSuppressionAdmin(ModelView, model=MailSuppression):
    """Addresses that get no more mail; who takes one away lets mail through again."""

    name = "Suppressed address"
    name_plural = "Suppressed addresses"
    icon = "fa-solid fa-ban"
    category = "Mail"
    category_icon = "fa-solid fa-envelope"
    can_edit = False
    column_list = ("address", "reason", "created_at")
    column_details_list = column_list
    column_searchable_list = ("address",)
    column_sortable_list = ("address", "created_at")
    column_default_sort = ("id", True)
    column_formatters = {"created_at": short_time}
    column_formatters_detail = column_formatters
    form_columns = ("address", "reason")

    async def on_model_change(
        self,
        data: dict[str, Any],
        model: MailSuppression,
        is_created: bool,
        request: Request,
    ) -> None:
        """Keep the address as mails are compared with it.

        Raises:
            AddressError: when it is none.
        """
        data["address"] = parse_address(data["address"]).lower()
