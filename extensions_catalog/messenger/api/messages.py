"""Routes below `/api/messenger/messages`."""

from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query
from sqlmodel import col, select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.extensions.messenger.models import (
    Direction,
    MessengerMessage,
    MessengerMessageOutput,
    MessengerReplyInput,
    PageScopedId,
)
from app.extensions.messenger.outbox import queue_reply
from app.extensions.messenger.settings import messenger_settings
from kit.security import serves

LARGEST_ID = 2**63 - 1
"""Of PostgreSQL's `bigint`."""

router = APIRouter(
    prefix="/messages",
    tags=["Messenger messages"],
    dependencies=[serves(scope="messenger:read", write_scope="messenger:write")],
)


@router.get("", response_model=list[MessengerMessageOutput])
async def list_messages(
    session: ReadSessionDep,
    psid: PageScopedId | None = None,
    direction: Direction | None = None,
    after: Annotated[int, Query(ge=0, le=LARGEST_ID)] = 0,
) -> list[MessengerMessage]:
    """The messages in the order in which they were stored, a page of them after the id `after`."""
    key = col(MessengerMessage.id)
    statement = select(MessengerMessage).where(key > after).order_by(key)
    if psid is not None:
        statement = statement.where(col(MessengerMessage.psid) == psid)
    if direction is not None:
        statement = statement.where(col(MessengerMessage.direction) == direction)
    return list(await session.exec(statement.limit(messenger_settings.PAGE_SIZE)))


@router.post("", response_model=MessengerMessageOutput, status_code=HTTPStatus.ACCEPTED)
async def send_reply(session: SessionDep, values: MessengerReplyInput) -> MessengerMessage:
    """Reply to a person, who has to have written within the last 24 hours."""
    reply: MessengerMessage = await session.run_sync(partial(queue_reply, **values.model_dump()))
    await session.commit()
    return reply
