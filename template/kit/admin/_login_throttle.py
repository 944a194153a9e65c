"""Limits failed log-ins across all processes: they are counted in the audit.

An attempt is recorded as failed before the password is checked, under a lock; the right password
turns the entry into a log-in. So concurrent attempts count each other, and no connection or lock is
held while a password is verified, which is slow by intent.

Two limits apply to an unknown browser. One is its network address's. The other is the username's,
ten times as high, against guesses from many addresses. Behind a proxy that is not named the address
is the one that the proxy reports. Over the internet anybody can write that header: there the peer's
own address counts, with the higher limit, since many may share it. An attacker who wants to lock an
administrator out can only exhaust these: a browser in which the administrator has logged in before
has a device cookie and a count of its own. A new password (`make admin-password`) resets the count.
Source for device cookies:
https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, Interval, extract, func, literal
from sqlmodel import Session, col, select

from kit.models import AdminUser, AuditAction, AuditEntry
from kit.settings import settings

USERNAME_FACTOR = 10
"""How many times more failures one username may have than one address."""

_LOCK = int.from_bytes(hashlib.sha256(b"admin log-in").digest()[:8], signed=True)


class TooManyAttemptsError(Exception):
    """The attempt is refused before its password is checked.

    Attributes:
        retry_after: seconds to wait.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many failed log-ins, the next one in {retry_after} s")
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """An attempt to log in: the account, and the client.

    Attributes:
        username: as typed, normalised.
        user: the account of that name, if there is one.
        client: as `client_network` returns it.
        device: id of a browser in which this user has logged in before, otherwise empty.
        is_shared: whether the client is a proxy, whose callers cannot be told apart.
    """

    username: str
    user: AdminUser | None
    client: str
    device: str
    is_shared: bool = False


def reserve_attempt(session: Session, attempt: LoginAttempt) -> int | None:
    """Record the attempt as failed, commit, and return the entry's key.

    Raises:
        TooManyAttemptsError: when a limit is reached; nothing is written then.
    """
    # Once without the lock: a refusal has to be cheap, and must not wait in the queue.
    _refuse_at_limit(session, attempt)
    session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    _refuse_at_limit(session, attempt)
    entry = AuditEntry(
        action=AuditAction.LOGIN_FAILED,
        # An unknown name is not recorded: it may be a password in the wrong field.
        actor=attempt.user.username if attempt.user else "",
        client=attempt.client,
        subject_type=AdminUser.__tablename__,
        subject_id=_subject(attempt),
        details={"device": attempt.device} if attempt.device else {},
    )
    session.add(entry)
    session.flush()
    entry_id = entry.id
    session.commit()
    return entry_id


def _refuse_at_limit(session: Session, attempt: LoginAttempt) -> None:
    device = col(AuditEntry.details)["device"].astext
    if attempt.device and not _seconds_to_wait(
        session, device == attempt.device, limit=settings.ADMIN_LOGIN_ATTEMPTS
    ):
        return
    counted = [device.is_(None)]
    if attempt.user and attempt.user.password_changed_at:
        counted.append(col(AuditEntry.occurred_at) > attempt.user.password_changed_at)
    of_client = col(AuditEntry.client) == attempt.client
    of_username = col(AuditEntry.subject_id) == _subject(attempt)
    attempts = settings.ADMIN_LOGIN_ATTEMPTS
    of_many = attempts * USERNAME_FACTOR
    of_one = of_many if attempt.is_shared else attempts
    if wait := max(
        _seconds_to_wait(session, of_client, *counted, limit=of_one),
        _seconds_to_wait(session, of_username, *counted, limit=of_many),
    ):
        raise TooManyAttemptsError(wait)


def _seconds_to_wait(session: Session, *which: ColumnElement[bool], limit: int) -> int:
    """Seconds until the oldest of the last `limit` failures expires; 0 when there are fewer."""
    window = literal(timedelta(seconds=settings.ADMIN_LOGIN_WINDOW), Interval)
    occurred_at = col(AuditEntry.occurred_at)
    remaining = session.scalar(
        select(extract("epoch", occurred_at + window - func.now()))
        .where(
            AuditEntry.action == AuditAction.LOGIN_FAILED,
            occurred_at > func.now() - window,
            *which,
        )
        .order_by(occurred_at.desc())
        .offset(limit - 1)
        .limit(1)
    )
    return 0 if remaining is None else max(1, int(remaining))


def _subject(attempt: LoginAttempt) -> str:
    if attempt.user is not None:
        return str(attempt.user.id)
    key = settings.secret_key.encode()
    return f"unknown:{hmac.digest(key, attempt.username.encode(), 'sha256').hex()[:32]}"
