"""What a delivery holds: events of several kinds, of which messages and postbacks matter here.

https://developers.facebook.com/docs/messenger-platform/reference/webhook-events
"""

import json
import logging
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.extensions.messenger.models import LONGEST_ID, LONGEST_MESSAGE_ID

logger = logging.getLogger(__name__)


class _Told(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)


class _Party(_Told):
    id: str = Field(min_length=1, max_length=LONGEST_ID)


class _QuickReply(_Told):
    payload: str


class _Message(_Told):
    mid: str = Field(min_length=1, max_length=LONGEST_MESSAGE_ID)
    text: str = ""
    attachments: list[dict[str, Any]] = []
    quick_reply: _QuickReply | None = None
    is_echo: bool = False


class _Postback(_Told):
    mid: str = Field(min_length=1, max_length=LONGEST_MESSAGE_ID)
    title: str = ""
    payload: str = ""


class _Event(_Told):
    sender: _Party
    recipient: _Party
    timestamp: datetime
    message: _Message | None = None
    postback: _Postback | None = None


class IncomingMessage(BaseModel):
    """What a person wrote, or the button that they pressed."""

    mid: str
    page_id: str
    psid: str
    text: str
    attachments: list[dict[str, Any]]
    postback: str | None
    sent_at: datetime


def incoming_messages(body: bytes) -> list[IncomingMessage]:
    """The messages of a delivery, in its order.

    Whatever else there is (echoes of the page's own messages, receipts, reactions, kinds that are
    not known yet) is left out: an error would make the platform repeat the delivery for a day.

    Raises:
        ValueError: when the body is no JSON object.
    """
    try:
        delivery = json.loads(body)
    except RecursionError:
        raise ValueError("the body is nested too deeply") from None
    if not isinstance(delivery, dict):
        raise ValueError("the body is no JSON object")  # noqa: TRY004 (as for what is no JSON)
    if delivery.get("object") != "page":
        return []
    messages = [
        _incoming_message(_storable(event))
        for entry in _objects(delivery.get("entry"))
        for event in _objects(entry.get("messaging"))
        if "message" in event or "postback" in event
    ]
    return [message for message in messages if message is not None]


def _incoming_message(told: Any) -> IncomingMessage | None:
    try:
        event = _Event.model_validate(told)
    except ValidationError as error:
        logger.warning("an event of the Messenger platform is not understood: %s", error)
        return None
    if event.message and not event.message.is_echo:
        quick_reply = event.message.quick_reply
        return IncomingMessage(
            mid=event.message.mid,
            page_id=event.recipient.id,
            psid=event.sender.id,
            text=event.message.text,
            attachments=event.message.attachments,
            postback=quick_reply and quick_reply.payload,
            sent_at=event.timestamp,
        )
    if event.postback:
        return IncomingMessage(
            mid=event.postback.mid,
            page_id=event.recipient.id,
            psid=event.sender.id,
            text=event.postback.title,
            attachments=[],
            postback=event.postback.payload,
            sent_at=event.timestamp,
        )
    return None


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _storable(value: Any) -> Any:
    """The value without what JSON can say and PostgreSQL cannot store: NUL, half a surrogate."""
    if isinstance(value, str):
        return value.replace("\0", "").encode(errors="replace").decode()
    if isinstance(value, list):
        return [_storable(each) for each in value]
    if isinstance(value, dict):
        return {_storable(name): _storable(each) for name, each in value.items()}
    return value
