"""API tokens: make, revoke and find them.

A token is `api_` and 256 random bits. Only its SHA-256 is stored, so a copy of the database gives
no access, and a lost token cannot be shown again.
"""

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Collection
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, func, or_
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col, update

from kit.models import ApiToken
from kit.places import service


class KnownToken(NamedTuple):
    """The facts about a valid token that authentication needs."""

    id: int
    name: str
    expires_at: datetime | None
    scopes: frozenset[str]


class TokenCache:
    """Caches valid tokens by their hash, for a limited time and up to a limited number.

    The time bounds how long a revoked token still works in this process. Unknown tokens are not
    cached: a new token works at once, and guesses cannot evict the known ones.
    """

    def __init__(self, *, seconds: float, size: int) -> None:
        self._seconds = seconds
        self._size = size
        self._entries: OrderedDict[str, tuple[float, KnownToken]] = OrderedDict()

    def get(self, digest: str) -> KnownToken | None:
        """The token with this hash, unless its entry has expired."""
        stale_at, token = self._entries.get(digest, (0.0, None))
        return token if time.monotonic() < stale_at else None

    def put(self, digest: str, token: KnownToken) -> None:
        """Add a valid token; the oldest entry may be evicted."""
        self._entries.pop(digest, None)
        self._entries[digest] = (time.monotonic() + self._seconds, token)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()


TOKEN_PREFIX = "api_"  # noqa: S105 (what a token starts with, for secret scanners to find it)
HINT_LENGTH = 12
"""Characters of the token that are kept readable; 35 of the 43 random ones stay unknown."""

DEFAULT_SCOPE = "default"
"""The scope of routes that name none."""
NEW_TOKENS_SCOPES = (DEFAULT_SCOPE, "tasks")
"""Of a token that is made without scopes: the service's own routes, and `/api/tasks`."""
ALL_SCOPES = "*"
"""Of tokens that were made before there were scopes, and of the developer's."""

token_cache = TokenCache(seconds=60, size=1024)


def create_api_token(
    session: Session,
    name: str,
    expires_at: datetime | None = None,
    scopes: Collection[str] = NEW_TOKENS_SCOPES,
) -> str:
    """Make a token and return it: the only time that it can be read. The caller commits.

    The name of a revoked or expired token may be used again; its row then holds the new token.

    Raises:
        ValueError: when the name is empty, too long or that of a token in use, or the expiry is in
            the past or has no time zone.
    """
    _check_name(name)
    _check_expiry(expires_at)
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    if not _store(session, name, token, scopes, expires_at, replaceable=_is_out_of_use()):
        raise ValueError(f"a token named {name!r} is in use; revoke it or choose another name")
    return token


def ensure_api_token(session: Session, name: str, token: str) -> None:
    """Make sure that this very token is valid under this name. The caller commits.

    For development, where the token is known beforehand; it replaces another token of the name,
    and has all scopes.

    Raises:
        ValueError: when the name is empty or too long, or the token lacks the prefix of tokens.
    """
    _check_name(name)
    if not token.startswith(TOKEN_PREFIX):
        raise ValueError(f"a token has to begin with {TOKEN_PREFIX}, or find_token ignores it")
    same = (col(ApiToken.token_hash) == hash_token(token)) & ~_is_out_of_use()
    _store(session, name, token, (ALL_SCOPES,), expires_at=None, replaceable=~same)


def revoke_api_token(session: Session, name: str) -> bool:
    """Revoke a token; returns whether there was one to revoke. The caller commits.

    Other processes may accept it from their caches for another minute at most.
    """
    revoked = session.exec(
        update(ApiToken)
        .where(col(ApiToken.name) == name, col(ApiToken.revoked_at).is_(None))
        .values(revoked_at=func.now())
        .returning(col(ApiToken.id))
    ).first()
    token_cache.clear()
    return revoked is not None


async def find_token(token: str) -> KnownToken | None:
    """Look a token up, in memory or with one statement; None unless it is valid now.

    The statement records the use, too: so `last_used_at` is late by the cache's duration, a minute
    at most. A token of another kind, such as that of an extension's provider, costs no lookup.
    """
    if not token.startswith(TOKEN_PREFIX):
        return None
    digest = hash_token(token)
    known = token_cache.get(digest)
    if known is None:
        known = await _note_use(digest)
        if known is None:
            return None
        token_cache.put(digest, known)
    if known.expires_at is not None and known.expires_at <= datetime.now(UTC):
        return None
    return known


async def _note_use(digest: str) -> KnownToken | None:
    statement = (
        update(ApiToken)
        .where(
            col(ApiToken.token_hash) == digest,
            col(ApiToken.revoked_at).is_(None),
            or_(col(ApiToken.expires_at).is_(None), col(ApiToken.expires_at) > func.now()),
        )
        .values(last_used_at=func.now())
        .returning(
            col(ApiToken.id), col(ApiToken.name), col(ApiToken.expires_at), col(ApiToken.scopes)
        )
    )
    async with service.async_session_maker() as session:
        row = (await session.exec(statement)).first()
        await session.commit()
    if row is None:
        return None
    return KnownToken(row.id, row.name, row.expires_at, frozenset(row.scopes))


def forget_known_tokens() -> None:
    """Clear the cache of tokens, so that a revocation takes effect in this process at once."""
    token_cache.clear()


def hash_token(token: str) -> str:
    """SHA-256 of the token, in hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def _is_out_of_use() -> ColumnElement[bool]:
    return or_(col(ApiToken.revoked_at).is_not(None), col(ApiToken.expires_at) <= func.now())


def _store(
    session: Session,
    name: str,
    token: str,
    scopes: Collection[str],
    expires_at: datetime | None,
    *,
    replaceable: ColumnElement[bool],
) -> bool:
    """Insert the token, or replace the one of the same name where that is allowed."""
    values = {
        "token_hash": hash_token(token),
        "hint": token[:HINT_LENGTH],
        "scopes": sorted(scopes),
        "expires_at": expires_at,
        "revoked_at": None,
        "last_used_at": None,
        "created_at": func.now(),
    }
    stored = session.execute(
        insert(ApiToken)
        .values(name=name, **values)
        .on_conflict_do_update(index_elements=["name"], set_=values, where=replaceable)
        .returning(col(ApiToken.id))
    ).first()
    token_cache.clear()
    return stored is not None


def _check_name(name: str) -> None:
    if not name.strip() or len(name) > 100:  # noqa: PLR2004 (the column's length)
        raise ValueError(f"a token's name has 1 to 100 characters, this one {len(name.strip())}")


def _check_expiry(expires_at: datetime | None) -> None:
    if expires_at is None:
        return
    if expires_at.tzinfo is None:
        raise ValueError(f"the expiry {expires_at.isoformat()} has no time zone")
    if expires_at <= datetime.now(UTC):
        raise ValueError(f"the expiry {expires_at.isoformat()} is in the past")
