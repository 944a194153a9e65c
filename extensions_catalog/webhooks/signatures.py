"""Secrets and signatures as the Standard Webhooks specification has them.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime

SECRET_PREFIX = "whsec_"  # noqa: S105 (marks what follows it as a secret)
SECRET_BYTES = 32
"""The specification asks for 24 to 64."""


def generate_secret() -> str:
    """A new secret, in the form in which its receiver gets it."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed_headers(
    signing_secrets: Iterable[str], message_id: str, moment: datetime, body: str
) -> dict[str, str]:
    """The headers by which a receiver knows a message as ours, as unchanged and as new.

    Args:
        signing_secrets: one signature is made with each; the receiver needs to know one of them.
        message_id: stays the same when a message is sent again.
        moment: when this attempt is made.
        body: exactly what will be sent.
    """
    timestamp = str(int(moment.timestamp()))
    content = f"{message_id}.{timestamp}.{body}".encode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_signature(secret, content) for secret in signing_secrets),
    }


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
