"""Passwords, kept as Argon2id hashes."""

import secrets
from functools import cache

from pwdlib import PasswordHash

MAXIMUM_PASSWORD_LENGTH = 256
"""Characters; whoever sends more only wants to keep the processor busy."""

_hasher = PasswordHash.recommended()


def hash_password(password: str) -> str:
    """The password's Argon2id hash, salt and parameters included.

    It takes some 50 ms and 64 MiB by intent: run it in a worker thread.

    Raises:
        ValueError: when the password is empty or longer than `MAXIMUM_PASSWORD_LENGTH`.
    """
    if not 0 < len(password) <= MAXIMUM_PASSWORD_LENGTH:
        raise ValueError(
            f"a password has 1 to {MAXIMUM_PASSWORD_LENGTH} characters, this one {len(password)}"
        )
    return _hasher.hash(password)


def verify_password(password: str, password_hash: str | None) -> bool:
    """Whether the password is the hash's.

    Without a hash the answer is no, after the same work: how long a log-in takes must not tell
    whether the username exists. Run it in a worker thread, as `hash_password`.
    """
    # Asked for in every case: the first call makes it, which takes as long as a verification.
    nobodys_hash = _nobodys_hash()
    too_long = len(password) > MAXIMUM_PASSWORD_LENGTH
    matches = _hasher.verify("" if too_long else password, password_hash or nobodys_hash)
    return matches and not too_long and password_hash is not None


def generate_password() -> str:
    """A new random password of 24 characters (144 bits)."""
    return secrets.token_urlsafe(18)


@cache
def _nobodys_hash() -> str:
    return _hasher.hash(secrets.token_urlsafe(18))
