"""What the platform calls, at `/messenger/webhook`: it signs its requests instead of logging in."""

import hmac
import logging
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import PlainTextResponse
from pydantic import SecretStr

from app.core.dependencies import SessionDep
from app.extensions.messenger.events import incoming_messages
from app.extensions.messenger.inbox import take_over
from app.extensions.messenger.settings import messenger_settings
from app.extensions.messenger.signatures import is_signed
from kit.errors import Problem

logger = logging.getLogger(__name__)

BODY_LIMIT = 1_048_576
"""Bytes of a delivery, which holds up to 1000 events."""

page_router = APIRouter(prefix="/webhook", include_in_schema=False)


@page_router.get("")
async def verify_webhook(
    mode: Annotated[str, Query(alias="hub.mode")] = "",
    token: Annotated[str, Query(alias="hub.verify_token")] = "",
    challenge: Annotated[str, Query(alias="hub.challenge", max_length=200)] = "",
) -> PlainTextResponse:
    """Show the platform that this address is its app's: its challenge is the answer."""
    expected = _secret(messenger_settings.VERIFY_TOKEN, "MESSENGER_VERIFY_TOKEN")
    if mode != "subscribe" or not hmac.compare_digest(token.encode(), expected.encode()):
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "hub.mode has to be subscribe, and hub.verify_token what the service was told.",
        )
    return PlainTextResponse(challenge)


async def read_signed_body(
    request: Request, signature: Annotated[str, Header(alias="X-Hub-Signature-256")] = ""
) -> bytes:
    """The request's body as it came, which the platform has signed.

    Raises:
        Problem: 403 when it has not.
    """
    secret = _secret(messenger_settings.APP_SECRET, "MESSENGER_APP_SECRET")
    body = await request.body()
    if not is_signed(body, signature, secret):
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "X-Hub-Signature-256 has to be the signature of this body with the app's secret.",
        )
    return body


@page_router.post("", max_body_size=BODY_LIMIT)
async def take_delivery(
    session: SessionDep, body: Annotated[bytes, Depends(read_signed_body)]
) -> PlainTextResponse:
    """Take over the messages of a delivery, each in a transaction of its own.

    When one of them fails the platform repeats the delivery, and those before it are known.
    """
    try:
        messages = incoming_messages(body)
    except ValueError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, f"The body cannot be read: {error}.") from None
    new = sum([await take_over(session, message) for message in messages])
    logger.info("%d messages over the Messenger platform, %d of them new", len(messages), new)
    return PlainTextResponse("EVENT_RECEIVED")


def _secret(value: SecretStr | None, name: str) -> str:
    if value is None:
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"{name} is not set, so nothing can be taken from the Messenger platform.",
        )
    return value.get_secret_value()
