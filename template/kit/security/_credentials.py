"""API tokens of programs, and the accounts and passwords of the people who log in at /admin.

A token is `api_` and 256 random bits. Only its SHA-256 is stored, so a copy of the database gives
no access, and a lost token cannot be shown again.
"""

import asyncio
import hashlib
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Collection
from datetime import UTC, datetime
from functools import cache
from threading import BoundedSemaphore

from anyio import CapacityLimiter
from pwdlib import PasswordHash
from pydantic import BaseModel
from sqlalchemy import ARRAY, ColumnElement, Text, any_, bindparam, func, or_
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col, select, update

from kit.database import write_rows
from kit.models import AdminRole, AdminUser, ApiToken, AuditAction, AuditEntry


class KnownToken(BaseModel, frozen=True):
    """The facts about a valid token that authentication needs."""

    token_hash: str
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

    def put(self, token: KnownToken) -> None:
        """Add a valid token; the oldest entry may be evicted."""
        self._entries.pop(token.token_hash, None)
        self._entries[token.token_hash] = (time.monotonic() + self._seconds, token)
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

_valid = (
    select(col(ApiToken.id))
    .where(
        col(ApiToken.token_hash) == any_(bindparam("digests", type_=ARRAY(Text))),
        col(ApiToken.revoked_at).is_(None),
        or_(col(ApiToken.expires_at).is_(None), col(ApiToken.expires_at) > func.now()),
    )
    # Two statements that lock the same rows in another order would wait for each other.
    .order_by(col(ApiToken.id))
    .with_for_update(key_share=True)  # no key changes, so rows may refer to it meanwhile
)
_note_uses = (
    update(ApiToken)
    .where(col(ApiToken.id).in_(_valid))
    .values(last_used_at=func.now())
    .returning(*(getattr(ApiToken, name) for name in KnownToken.model_fields))
)


class _Lookups:
    """Looks tokens up; those asked for in the same turn of the event loop with one statement."""

    def __init__(self) -> None:
        self._asked: set[str] = set()
        self._next: asyncio.Task[dict[str, KnownToken]] | None = None

    async def find(self, digest: str) -> KnownToken | None:
        """The valid token with this hash."""
        if self._next is None or self._next.done():  # cancelled, where its loop has ended
            self._asked = set()
            self._next = asyncio.create_task(self._look_up(self._asked))
        self._asked.add(digest)
        # A request that is cancelled leaves the others theirs.
        return (await asyncio.shield(self._next)).get(digest)

    async def _look_up(self, asked: set[str]) -> dict[str, KnownToken]:
        self._next = None
        valid = await write_rows(_note_uses, KnownToken, digests=list(asked))
        return {token.token_hash: token for token in valid}


_lookups = _Lookups()


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
    if (known := token_cache.get(digest)) is None:
        known = await _lookups.find(digest)
        if known is None:
            return None
        token_cache.put(known)
    if known.expires_at is not None and known.expires_at <= datetime.now(UTC):
        return None
    return known


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


PASSWORDS_AT_ONCE = 2
"""Of a process: forty threads of log-ins would take 2.5 GB."""

MAXIMUM_PASSWORD_LENGTH = 256
"""Characters; hashing a longer password would only keep the processor busy."""

_hasher = PasswordHash.recommended()
_hashing = BoundedSemaphore(PASSWORDS_AT_ONCE)
PASSWORD_THREADS = CapacityLimiter(PASSWORDS_AT_ONCE)
"""For `anyio.to_thread.run_sync`: those who wait need no thread that others could use."""


def hash_password(password: str) -> str:
    """Hash a password with Argon2id; the result includes salt and parameters.

    It takes some 50 ms and 64 MiB by intent: run it in `PASSWORD_THREADS`.

    Raises:
        ValueError: when the password is empty or longer than `MAXIMUM_PASSWORD_LENGTH`.
    """
    if not 0 < len(password) <= MAXIMUM_PASSWORD_LENGTH:
        raise ValueError(
            f"a password has 1 to {MAXIMUM_PASSWORD_LENGTH} characters, this one {len(password)}"
        )
    with _hashing:
        return _hasher.hash(password)


def verify_password(password: str, password_hash: str | None) -> bool:
    """Whether the password matches the hash.

    Without a hash the answer is no, after the same work: the duration of a log-in must not reveal
    whether the username exists. Run it in `PASSWORD_THREADS`, like `hash_password`.
    """
    # In every case, since the first call makes the hash, which takes as long as a verification.
    dummy_hash = _dummy_hash()
    too_long = len(password) > MAXIMUM_PASSWORD_LENGTH
    with _hashing:
        matches = _hasher.verify("" if too_long else password, password_hash or dummy_hash)
    return matches and not too_long and password_hash is not None


def generate_password() -> str:
    """Generate a random password of 24 characters (144 bits)."""
    return secrets.token_urlsafe(18)


@cache
def _dummy_hash() -> str:
    return _hasher.hash(secrets.token_urlsafe(18))


_USERNAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")

COMMAND_LINE = "command line"
"""The client in the audit entries of commands."""


def normalise_username(username: str) -> str:
    """Normalise a username as it is stored: in lower case, without surrounding space.

    Raises:
        ValueError: when it is empty, too long or holds anything but letters, digits and `._@+-`.
    """
    normalised = username.strip().lower()
    if not _USERNAME.fullmatch(normalised):
        raise ValueError(
            f"{username!r} is not a valid username: expected 1 to 64 of a-z, 0-9 and ._@+-, "
            "beginning with a letter or digit"
        )
    return normalised


def set_admin_password(
    session: Session, username: str, password: str, role: AdminRole | None = None
) -> AdminUser:
    """Set an administrator's password; makes the account if need be. The caller commits.

    Open sessions of that administrator end, a disabled account is enabled again, and earlier failed
    log-ins no longer count. Without a role an account keeps its own, and a new one is an editor.

    Raises:
        ValueError: for an invalid username or password.
    """
    username = normalise_username(username)
    password_hash = hash_password(password)
    user = _find(session, username)
    if user is None:
        user = AdminUser(username=username, password_hash=password_hash)
    else:
        user.password_hash = password_hash
        user.password_changed_at = session.exec(select(func.now())).one()
        user.session_version += 1
        user.is_active = True
    user.role = role or user.role
    session.add(user)
    session.flush()
    _record(session, AuditAction.PASSWORD, user)
    return user


def ensure_admin(session: Session, username: str, password: str) -> None:
    """Make sure that this administrator can log in with this password. The caller commits.

    For development, where the password is known beforehand; no change if the log-in works already.
    """
    user = _find(session, normalise_username(username))
    if user is None or not user.is_active or not verify_password(password, user.password_hash):
        set_admin_password(session, username, password)


def disable_admin(session: Session, username: str) -> bool:
    """Disable the administrator and end open sessions; returns whether one was active.

    The caller commits. `set_admin_password` enables the account again.
    """
    user = session.exec(
        update(AdminUser)
        .where(col(AdminUser.username) == normalise_username(username), col(AdminUser.is_active))
        .values(is_active=False, session_version=AdminUser.session_version + 1)
        .returning(AdminUser)
    ).scalar_one_or_none()
    if user is None:
        return False
    _record(session, AuditAction.UPDATE, user, is_active={"old": True, "new": False})
    return True


def _find(session: Session, username: str) -> AdminUser | None:
    return session.exec(
        select(AdminUser).where(AdminUser.username == username).with_for_update()
    ).first()


def _record(session: Session, action: AuditAction, user: AdminUser, **changes: object) -> None:
    session.add(
        AuditEntry(
            action=action,
            client=COMMAND_LINE,
            subject_type=AdminUser.__tablename__,
            subject_id=str(user.id),
            details=changes,
        )
    )
