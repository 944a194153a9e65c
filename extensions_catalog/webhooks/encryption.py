"""Receivers' secrets, encrypted in the database under the service's `SECRET_KEY`."""

import base64
from functools import cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import Dialect, Text
from sqlalchemy.types import TypeDecorator

from app.core.config import settings
from app.extensions.webhooks.settings import webhooks_settings
from app.extensions.webhooks.signatures import SECRET_PREFIX


class EncryptedSecret(TypeDecorator[str]):
    """A signing secret: plain in Python, encrypted in the database.

    One that no key opens is read as it is stored, so that its subscription can still be listed,
    changed and given a new secret.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """What is stored."""
        return None if value is None else encrypted(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """What is read."""
        return None if value is None else decrypted(value)


def encrypted(secret: str) -> str:
    """The secret as it is stored, by https://github.com/fernet/spec/; what is none, as it is."""
    if not secret.startswith(SECRET_PREFIX):
        return secret
    return _fernet(settings.secret_key).encrypt(secret.encode()).decode()


def decrypted(stored: str) -> str:
    """The secret of what is stored; what no key opens, as it is: plain ones of an older release."""
    former = webhooks_settings.FORMER_SECRET_KEY
    keys = (settings.secret_key, *([former.get_secret_value()] if former else []))
    try:
        return MultiFernet([_fernet(key) for key in keys]).decrypt(stored).decode()
    except InvalidToken:
        return stored


def is_current(stored: str) -> bool:
    """Whether `SECRET_KEY` opens what is stored."""
    try:
        _fernet(settings.secret_key).decrypt(stored)
    except InvalidToken:
        return False
    return True


@cache
def _fernet(secret_key: str) -> Fernet:
    """`SECRET_KEY` has other uses too, so a key of this one use is derived from it."""
    derived = HKDF(SHA256(), length=32, salt=None, info=b"webhooks").derive(secret_key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
