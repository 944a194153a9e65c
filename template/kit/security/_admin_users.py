"""The accounts of the people who log in at /admin, and their passwords."""

import re
import secrets
from functools import cache

from pwdlib import PasswordHash
from sqlalchemy import func
from sqlmodel import Session, col, select, update

from kit.models import AdminRole, AdminUser, AuditAction, AuditEntry

MAXIMUM_PASSWORD_LENGTH = 256
"""Characters; hashing a longer password would only keep the processor busy."""

_hasher = PasswordHash.recommended()


def hash_password(password: str) -> str:
    """Hash a password with Argon2id; the result includes salt and parameters.

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
    """Whether the password matches the hash.

    Without a hash the answer is no, after the same work: the duration of a log-in must not reveal
    whether the username exists. Run it in a worker thread, like `hash_password`.
    """
    # In every case, since the first call makes the hash, which takes as long as a verification.
    dummy_hash = _dummy_hash()
    too_long = len(password) > MAXIMUM_PASSWORD_LENGTH
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
