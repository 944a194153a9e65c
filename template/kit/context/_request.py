"""The id of the request that is being served, or that sent the running task.

It ties together what one call caused: it comes from or goes into the header `X-Request-ID`, stands
in every log line and problem document, and travels with the tasks that the request sends.
"""

import re
import uuid
from contextvars import ContextVar, Token

REQUEST_ID_HEADER = "X-Request-ID"

# A stranger's id goes into logs and into Celery's headers, so it may only be a short plain word.
_ACCEPTED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

_request_id: ContextVar[str] = ContextVar("request_id", default="")


def get_request_id() -> str:
    """The bound request id; an empty string outside a request and outside a task that one sent."""
    return _request_id.get()


def bind_request_id(request_id: str) -> Token[str]:
    """Bind a request id to the running context; give the token to `unbind_request_id`."""
    return _request_id.set(request_id)


def unbind_request_id(token: Token[str]) -> None:
    """Put back what was bound before `bind_request_id` returned this token."""
    _request_id.reset(token)


def accepted_request_id(candidate: str | None) -> str:
    """The caller's id where it is a plain word of at most 128 characters, otherwise a new one."""
    if candidate and _ACCEPTED.fullmatch(candidate):
        return candidate
    return uuid.uuid4().hex
