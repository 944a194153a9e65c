"""Checks of the database, on one connection in autocommit."""

from collections.abc import Iterator
from datetime import UTC, datetime

from sqlalchemy import Connection, MetaData, text
from sqlmodel import SQLModel

from kit.connections import postgres_budget
from kit.database import tables_without_row_security
from kit.doctor._checks import Finding, check, fine, problem, warning
from kit.migrations import (
    MigrationState,
    explain_ahead,
    explain_orphan,
    read_state,
    script_directory,
)
from kit.settings import settings

OLDEST_POSTGRES = 15
MOST_CLOCK_SECONDS = 30
LATE = "15 minutes"
_OVERDUE = "SELECT count(*) FROM {} WHERE state IN ('queued', 'sending') AND due_at < now() - {}"
_LIMITS = """
SELECT least(
    current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int,
    (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()),
    (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user))
"""


@check("database", "the database can be reached, and is PostgreSQL 15 or newer", "database")
def _database(connection: Connection) -> Iterator[Finding]:
    version = connection.scalar(text("SHOW server_version"))
    if connection.dialect.server_version_info < (OLDEST_POSTGRES,):  # type: ignore[operator]
        yield problem(
            f"PostgreSQL {version} is older than the oldest that is tested",
            f"Upgrade the server to PostgreSQL {OLDEST_POSTGRES} or newer.",
        )
    else:
        yield fine(f"PostgreSQL {version}, {settings.pooler_mode} pooler")


@check("database-writable", "the database takes writes", "database")
def _database_writable(connection: Connection) -> Iterator[Finding]:
    if connection.scalar(text("SELECT pg_is_in_recovery()")):
        remedy = "Name the primary server in DATABASE_URL or POSTGRES_HOST."
        yield problem("the server is a standby, which is read-only", remedy)
    elif connection.scalar(text("SHOW default_transaction_read_only")) == "on":
        # https://supabase.com/docs/guides/platform/database-size
        name = connection.dialect.identifier_preparer.quote(settings.POSTGRES_DB)
        yield problem(
            "the database is read-only, as Supabase makes one that has outgrown its plan",
            "Free space or choose a larger plan. Where someone set it, reset it by one statement "
            "after the other: `SET default_transaction_read_only = off;` "
            f"`ALTER DATABASE {name} RESET default_transaction_read_only;`",
        )


@check("migrations", "the database is at the code's heads", "database")
def _migrations(connection: Connection) -> Iterator[Finding]:
    yield from judge_migrations(read_state(connection, script_directory(), MetaData()))


def judge_migrations(state: MigrationState) -> Iterator[Finding]:
    """Check whether the service can start with the database's migrations."""
    ahead = [explain_ahead(state)] if state.is_ahead else []
    for message in [*map(explain_orphan, state.orphans), *ahead]:
        what, _, remedy = message.partition(". ")
        yield warning(f"{what}.", remedy)
    if state.missing and not ahead:
        lacks = f"the database lacks {', '.join(state.missing)}"
        yield problem(lacks, "Run `make db-upgrade`.")


@check("row-security", "row level security is on for every table of the schema public", "database")
def _row_security(connection: Connection) -> Iterator[Finding]:
    if bare := tables_without_row_security(connection):
        yield problem(
            f"row level security is off for {', '.join(bare)}: on Supabase, anyone with the "
            "project's URL and public key can read them",
            "In a migration: "
            + " ".join(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;" for table in bare),
        )


@check(
    "database-limit",
    "the server allows the connections of all processes",
    "database",
    when=lambda: settings.pooler_mode == "none",  # else its connections are not ours
)
def _database_limit(connection: Connection) -> Iterator[Finding]:
    allowed, needed = connection.scalar(text(_LIMITS)) or 0, postgres_budget(settings).total
    if needed > allowed:
        yield problem(
            f"the processes may hold {needed} connections, and the server allows {allowed}",
            f"Set POSTGRES_CONNECTION_LIMIT={allowed} and run fewer processes where that is too "
            "few, or raise the limit of the server, the database or the user.",
        )


@check("clock", "this machine's clock agrees with the database's", "database", production=True)
def _clock(connection: Connection) -> Iterator[Finding]:
    before = datetime.now(UTC)
    there = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    here = before + (datetime.now(UTC) - before) / 2
    seconds = abs((there - here).total_seconds())
    if seconds > MOST_CLOCK_SECONDS:
        yield warning(
            f"this machine's clock is {seconds:.0f} s off the database's; sessions and leases end "
            "by one, tokens by the other",
            "Set it by the network: `timedatectl set-ntp true`",
        )


@check("api-tokens", "every API token expires", "database", production=True)
def _api_tokens(connection: Connection) -> Iterator[Finding]:
    endless = "SELECT name FROM api_token WHERE revoked_at IS NULL AND expires_at IS NULL"
    for name in connection.scalars(text(f"{endless} ORDER BY name")):
        yield warning(
            f"the API token {name} never expires",
            f'Give its holder another, as `make token name="{name} 2" expires=365d` makes it, then '
            f'`make token-revoke name="{name}"`',
        )


@check("outboxes", "no row of an outbox is overdue", "database", production=True)
def _outboxes(connection: Connection) -> Iterator[Finding]:
    for table in SQLModel.metadata.sorted_tables:
        if {"state", "due_at", "attempts"} <= {*table.columns.keys()}:
            name = connection.dialect.identifier_preparer.format_table(table)
            late = connection.scalar(text(_OVERDUE.format(name, f"interval '{LATE}'")))
            if late:
                yield warning(
                    f"{late} rows of {name} have been due for {LATE} or longer",
                    "Run `make worker` and `make beat`, and look at their logs.",
                )
