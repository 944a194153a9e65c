"""The platform's Send API.

https://developers.facebook.com/docs/messenger-platform/reference/send-api
"""

import json
import time
from http import HTTPStatus
from types import TracebackType
from typing import Any

import httpx2
from pydantic import SecretStr

from app.extensions.messenger.models import LONGEST_MESSAGE_ID, MessageState, MessengerMessage
from app.extensions.messenger.settings import MessengerSettings
from kit.outbox import Outcome

BYTES_LIMIT = 65_536
"""Of an answer; it has some 150."""

TEMPORARY_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})

TEMPORARY_CODES = frozenset({1, 2, 4, 17, 32, 341, 613, 80006})
"""Of errors that pass by themselves: the platform's own, and the rate limits, which come with 4xx.

https://developers.facebook.com/docs/graph-api/guides/error-handling
https://developers.facebook.com/docs/graph-api/overview/rate-limiting
"""


class SendApi:
    """A connection to the Send API, for as many replies as there are."""

    def __init__(self, settings: MessengerSettings, page_token: SecretStr) -> None:
        self._url = f"{settings.GRAPH_URL}/me/messages"
        self._timeout = settings.SEND_TIMEOUT
        self._page_token = page_token
        self._client = httpx2.Client(timeout=settings.SEND_TIMEOUT)

    def __enter__(self) -> "SendApi":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def send(self, reply: MessengerMessage) -> Outcome:
        """Send a reply; whatever goes wrong is told by the outcome."""
        # A form, as the documentation has it; the token is in no address, since those get logged.
        form = {
            "recipient": json.dumps({"id": reply.psid}),
            "messaging_type": "RESPONSE",
            "message": json.dumps({"text": reply.text}),
            "access_token": self._page_token.get_secret_value(),
        }
        try:
            with self._client.stream("POST", self._url, data=form) as answer:
                return _outcome(answer.status_code, self._read(answer))
        except httpx2.TimeoutException:
            reason = f"no answer within {self._timeout:g} seconds"
            return Outcome(MessageState.QUEUED, reason)
        except httpx2.RequestError as error:
            reason = f"the platform is not reached: {type(error).__name__}: {error}"
            return Outcome(MessageState.QUEUED, reason)

    def _read(self, answer: httpx2.Response) -> bytes:
        """The body, no longer than the limit; httpx2 times each of its reads, not all of them."""
        end = time.monotonic() + self._timeout
        body = b""
        for part in answer.iter_bytes():
            body += part
            if time.monotonic() > end:
                raise httpx2.ReadTimeout("the answer does not end", request=answer.request)
            if len(body) > BYTES_LIMIT:
                break
        return body[:BYTES_LIMIT]


def _outcome(status: int, body: bytes) -> Outcome:
    document = _parsed(body)
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        mid = document.get("message_id")
        is_known = isinstance(mid, str) and len(mid) <= LONGEST_MESSAGE_ID
        return Outcome(MessageState.SENT, values={"mid": mid if is_known else None})
    error = document.get("error")
    error = error if isinstance(error, dict) else {}
    is_temporary = (
        status >= HTTPStatus.INTERNAL_SERVER_ERROR
        or status in TEMPORARY_STATUSES
        or error.get("code") in TEMPORARY_CODES
        or error.get("is_transient") is True
    )
    state = MessageState.QUEUED if is_temporary else MessageState.FAILED
    return Outcome(state, _reason(status, error))


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _reason(status: int, error: dict[str, Any]) -> str:
    """The platform's own words, with the numbers to look them up by."""
    numbers = [str(error[name]) for name in ("code", "error_subcode") if name in error]
    told = str(error.get("message", "")).replace("\0", "")
    return " ".join(part for part in (str(status), "/".join(numbers), told) if part)
