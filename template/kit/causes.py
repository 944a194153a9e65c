"""The cause behind an exception: a lost server, a conflict, a value that the database refuses.

Without the web framework, which the worker has no use for. The SQLSTATE codes are those of
https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

import socket
from collections.abc import Iterator

import asyncpg  # type: ignore[import-untyped]
import kombu.exceptions
import redis.exceptions
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from kit.redis import RedisGivenUpError, RedisPoolBusyError

_OUTAGE_CLASSES = (
    "08",  # connection lost or refused
    "28",  # the service's own login is refused
    "3D",  # the service's own database is missing
    "40",  # deadlock or serialization failure: the same request succeeds when sent again
    "53",  # out of connections, memory or disk
    "57",  # shut down by an operator, or cancelled by a statement timeout
    "58",  # the server's own disk or files fail
)
_OUTAGE_CODES = (
    "25006",  # read-only: a standby, or Supabase's answer to a full disk
    "55P03",  # lock not available within lock_timeout
    "XX000",  # Supabase's pooler, when it has no connection left
)
_CONFLICT_CODES = (
    "23001",  # foreign key with ON DELETE RESTRICT
    "23503",  # foreign key
    "23505",  # unique
    "23P01",  # exclusion
)
_RULE_CODES = (
    "23502",  # NOT NULL
    "23514",  # CHECK
)
_UNSTORABLE_CODES = (
    "22000",  # asyncpg, before it sends a value that does not fit
    "22001",  # longer than the column
    "22003",  # number out of range
    "22007",  # not a date or time
    "22008",  # date or time out of range
    "22021",  # a character, as NUL, that text cannot hold
    "22P02",  # not of the column's type, for example NaN in JSON
    "22P05",
)

_LOST_CONNECTIONS = (
    PoolTimeoutError,
    ConnectionError,  # includes refused and reset; asyncpg raises them bare while it connects
    TimeoutError,
    socket.gaierror,
    asyncpg.exceptions.PostgresConnectionError,
    RedisPoolBusyError,
    RedisGivenUpError,
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.NoPermissionError,  # the service's own user lacks a right
    kombu.exceptions.OperationalError,
    kombu.exceptions.LimitExceeded,
)


LOST_IN_TRANSACTION = "8s2b"
"""SQLAlchemy's code of a `PendingRollbackError` after the loss of the transaction's connection."""


def is_outage(error: BaseException) -> bool:
    """Whether a database, Redis or another server was lost, too slow, full, or refused the call."""
    return any(_is_outage(cause) for cause in _causes(error))


def is_conflict(error: BaseException) -> bool:
    """Whether the change conflicts with rows that other requests wrote.

    Unique, exclusion and foreign key constraints: an endpoint that looks first cannot rule them
    out, since another request may come in between.
    """
    return any(_sqlstate(cause) in _CONFLICT_CODES for cause in _causes(error))


def breaks_rule(error: BaseException) -> bool:
    """Whether NOT NULL or CHECK refuses a value, whatever other rows there are."""
    return any(_sqlstate(cause) in _RULE_CODES for cause in _causes(error))


def broken_constraint(error: BaseException) -> str | None:
    """Name of the constraint that a change breaks, or of the column that may not be null."""
    for cause in _causes(error):
        if isinstance(cause, DBAPIError) and cause.orig is not None:
            # psycopg2 has the server's fields in `diag`, asyncpg in the exception behind the one
            # that SQLAlchemy makes of it.
            fields = getattr(cause.orig, "diag", cause.orig.__cause__)
            return getattr(fields, "constraint_name", None) or getattr(fields, "column_name", None)
    return None


def is_unstorable(error: BaseException) -> bool:
    """Whether a value that passed validation does not fit into its column."""
    return any(
        _sqlstate(cause) in _UNSTORABLE_CODES or _is_refused_by_type(cause)
        for cause in _causes(error)
    )


def _is_refused_by_type(error: BaseException) -> bool:
    """Whether the column's type refused the value, as SQLModel's does a moment without a zone."""
    if isinstance(error, DBAPIError) or not isinstance(error, StatementError):
        return False
    return isinstance(error.orig, (ValueError, ArithmeticError, LookupError))


def first_line(error: BaseException) -> str:
    """First line of an error's message, without the rows and parameters that the database adds."""
    message = str(error.orig if isinstance(error, DBAPIError) else error)
    if not message and isinstance(error, TimeoutError):  # as that of asyncpg's `command_timeout`
        return "no answer in time"
    return message.partition("\n")[0]


_REMEDIES_FOR_REDIS = {
    "CERTIFICATE_VERIFY_FAILED": "Name the server's certificate in REDIS_CA_FILE or, where the "
    "provider has none to download, set REDIS_TLS_VERIFY=false.",
    "max number of clients": "End what else is connected to it, or choose a larger plan.",
    "no permissions": "Give that user the command, at the provider or with ACL SETUSER.",
    "": "Start it, or correct REDIS_URL, REDIS_HOST, REDIS_PORT and REDIS_PASSWORD.",
}
"""By a part of the server's message."""


def explain(outage: BaseException) -> tuple[str, str]:
    """Why a command failed, and the remedy."""
    said = first_line(outage).rstrip(".")
    if type(outage).__module__.startswith(("redis.", "kombu.")):
        remedy = next(each for part, each in _REMEDIES_FOR_REDIS.items() if part in said)
        return f"Redis cannot be used ({said}).", remedy
    return f"a server failed ({said}).", "`make doctor` names the cause and the remedy."


def _is_outage(error: BaseException) -> bool:
    if getattr(error, "code", None) == LOST_IN_TRANSACTION:
        return True
    if isinstance(error, DBAPIError):
        code = _sqlstate(error)
        if code:
            return code[:2] in _OUTAGE_CLASSES or code in _OUTAGE_CODES
        # Without a code the driver never got an answer. An InterfaceError may also be a bug in our
        # use of the driver; only a closed connection is an outage.
        closed = isinstance(error, InterfaceError) and "closed" in str(error.orig)
        return error.connection_invalidated or isinstance(error, OperationalError) or closed
    return isinstance(error, _LOST_CONNECTIONS)


def _sqlstate(error: BaseException) -> str | None:
    """The code that PostgreSQL sent; both drivers' exceptions carry it as `pgcode`."""
    return getattr(error.orig, "pgcode", None) if isinstance(error, DBAPIError) else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and the errors that it was explicitly raised from."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__
