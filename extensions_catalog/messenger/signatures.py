r"""The signature that the platform puts on each delivery.

It is made of the bytes of the body as they are sent. The platform escapes there what is not ASCII
(`\u00e4`), so a body that was parsed and written anew has another signature.

https://developers.facebook.com/docs/messenger-platform/webhooks#validate-payloads
"""

import hashlib
import hmac

PREFIX = "sha256="


def sign(body: bytes, app_secret: str) -> str:
    """Value of the header `X-Hub-Signature-256` for this body."""
    return PREFIX + hmac.new(app_secret.encode(), body, hashlib.sha256).hexdigest()


def is_signed(body: bytes, signature: str, app_secret: str) -> bool:
    """Whether the signature is this body's; the time it takes does not tell how much of it is."""
    return hmac.compare_digest(sign(body, app_secret).encode(), signature.encode())
