"""Deliveries as the platform makes them, and their signatures, made independently of the code."""

import hashlib
import hmac
import json
from typing import Any

from app.extensions.messenger.tests.conftest import APP_SECRET

PAGE = "1067280970047460"
PERSON = "6543210987654321"


def a_message(mid: str = "m_1", *, psid: str = PERSON, **values: Any) -> dict[str, Any]:
    """An event: a person has written; `values` are the message's further members."""
    return {
        "sender": {"id": psid},
        "recipient": {"id": PAGE},
        "timestamp": 1762902671999,
        "message": {"mid": mid} | ({"text": "hello"} | values),
    }


def a_postback(mid: str = "m_p") -> dict[str, Any]:
    """An event: a person has pressed a button."""
    return {
        "sender": {"id": PERSON},
        "recipient": {"id": PAGE},
        "timestamp": 1762902671999,
        "postback": {"mid": mid, "title": "Get started", "payload": "GET_STARTED"},
    }


def a_delivery(*events: dict[str, Any]) -> bytes:
    """One entry with these events; what is not ASCII and slashes are escaped, as on the wire."""
    entry = {"id": PAGE, "time": 1762902672100, "messaging": list(events)}
    return a_body({"object": "page", "entry": [entry]})


def a_body(document: Any) -> bytes:
    """A document as the platform writes JSON."""
    return json.dumps(document, separators=(",", ":")).replace("/", "\\/").encode()


def signed(body: bytes, secret: str = APP_SECRET) -> dict[str, str]:
    """The headers of a delivery."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={digest}"}
