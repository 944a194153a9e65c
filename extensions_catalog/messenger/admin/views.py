"""The view of what people wrote and what they were answered."""

import textwrap

import anyio.to_thread
from sqladmin import ModelView, action
from sqlmodel import col, select
from starlette.requests import Request
from starlette.responses import RedirectResponse

from app.extensions.messenger.models import Direction, MessageState, MessengerMessage
from app.extensions.messenger.outbox import queue_again
from kit.admin import (
    DateRangeFilter,
    EnumFilterBase,
    chosen_keys,
    return_to_list,
    short_time,
)

LIST_CHARACTERS = 40
"""Of a text, in the list; the details have all of it."""

NOT_SENT = (MessageState.FAILED, MessageState.KEPT)


class DirectionFilter(EnumFilterBase):
    """Which way a message goes."""

    enum = Direction


class MessageStateFilter(EnumFilterBase):
    """What has become of a message."""

    enum = MessageState


class MessengerMessageAdmin(ModelView, model=MessengerMessage):
    """Messages, which the service alone writes; replies that were not sent can be sent again."""

    name = "Message"
    name_plural = "Messages"
    icon = "fa-solid fa-comment"
    category = "Messenger"
    category_icon = "fa-solid fa-comments"
    can_create = can_edit = can_delete = False
    can_export = False
    column_list = ("id", "direction", "state", "psid", "text", "created_at", "sent_at")
    column_details_list = (
        *("direction", "state", "error", "attempts", "psid", "page_id", "mid", "text"),
        *("attachments", "postback", "created_at", "due_at", "sent_at"),
    )
    column_labels = {
        "id": "No.",
        "psid": "Person",
        "page_id": "Page",
        "mid": "Message id",
        "created_at": "Stored",
        "sent_at": "Sent",
    }
    column_searchable_list = ("psid", "text", "mid")
    column_sortable_list = ("id", "created_at", "sent_at")
    column_default_sort = ("id", True)
    column_filters = (
        DirectionFilter(MessengerMessage.direction, title="Direction"),
        MessageStateFilter(MessengerMessage.state, title="State"),
        DateRangeFilter(MessengerMessage.created_at, title="Stored"),
    )
    column_formatters = {
        **dict.fromkeys(("created_at", "sent_at"), short_time),
        "text": lambda message, _: textwrap.shorten(message.text, LIST_CHARACTERS, placeholder="…"),
    }
    column_formatters_detail = dict.fromkeys(("created_at", "due_at", "sent_at"), short_time)

    @action(
        name="send-again",
        label="Send again",
        confirmation_message="Send those replies that were not sent, as if for the first time?",
    )
    async def send_again(self, request: Request) -> RedirectResponse:
        """Queue the chosen replies anew, but for those that are sent or about to be."""
        states = await anyio.to_thread.run_sync(self._queue_again, chosen_keys(request))
        told = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        return return_to_list(self, request, told or "None of them can be sent again")

    def _queue_again(self, ids: list[int]) -> list[str]:
        """States of the replies afterwards."""
        statement = select(MessengerMessage).where(
            col(MessengerMessage.id).in_(ids),
            col(MessengerMessage.direction) == Direction.OUT,
            col(MessengerMessage.state).in_(NOT_SENT),
        )
        with self.session_maker() as session:
            replies = session.exec(statement.with_for_update()).all()
            for reply in replies:
                queue_again(session, reply)
            session.commit()
            return [reply.state for reply in replies]
