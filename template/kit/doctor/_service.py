"""The checks: of settings, of the code and what its application answers, of the database and Redis.

The database is asked on one connection in autocommit.
"""

import asyncio
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from ipaddress import ip_address, ip_network
from typing import Any

from fastapi import FastAPI
from sqlalchemy import Connection, MetaData, inspect, text
from sqlalchemy.orm import Mapper
from starlette.types import Message

from kit.admin import ADMIN_PATH, model_views
from kit.connections import postgres_budget, postgres_remedy, redis_budget, redis_remedy
from kit.database import row_security_remedies
from kit.doctor._checks import Finding, check, fine, problem, warning
from kit.migrations import (
    MigrationState,
    explain_ahead,
    explain_forks,
    explain_orphan,
    read_state,
    script_directory,
)
from kit.outbox import read_backlogs
from kit.places import service
from kit.queue import UNNAMED_PROXY, RedisStatus
from kit.settings import (
    BASE_DIR,
    SHORTEST_PASSWORD,
    SUPABASE_PROJECT_HOST,
    SUPABASE_TRANSACTION_PORT,
    Settings,
    dotenv_file,
    extension_problems,
    is_guessable,
    settings,
    unknown_settings,
    values_with_open_dollar,
)

WITH_A_CHECK = ("SECRET_KEY", "CORS_ORIGINS")
"""Settings whose refusals are those of a check of their own."""

DEVSERVICES = BASE_DIR / "kit" / "devservices"
"""No image has it."""
_PLACEHOLDER = re.compile(r"change.?(me|it)|secret|password|example|insecure", re.IGNORECASE)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@A-Z]+(?<!:80)(?<!:443)")
_ANY_SCRIPT = {"'unsafe-inline'", "'unsafe-eval'", "*", "http:", "https:", "data:"}


def _refused(*names: str) -> list[Finding]:
    """The start's refusals that begin with one of these settings; without names, all the others."""
    others = _endings(settings.unsafe | settings.unsafe_of_extensions)
    of_extensions = _lines(extension_problems(settings.ENABLED_EXTENSIONS))
    return [
        _split(line)
        for line in _lines(Settings.collected or settings.problems())
        if (line.startswith(names) if names else not line.startswith(WITH_A_CHECK))
        and not line.endswith(others)
        and line not in of_extensions
    ]


def _lines(messages: list[str]) -> list[str]:
    return [line.strip() for each in messages for line in each.splitlines()]


def _endings(unsafe: Mapping[str, str]) -> tuple[str, ...]:
    """How the refusals of what is unsafe end."""
    return tuple(f"add {name} to ALLOW_UNSAFE." for name in unsafe)


def _split(line: str) -> Finding:
    """Take a refusal apart into what is wrong and what to do."""
    what, _, remedy = line.partition(": ")
    if remedy and not what.endswith(")"):
        return problem(what, remedy[0].upper() + remedy[1:])
    return problem(line, "Correct it: .env.example describes each setting.")


def _unsafe(name: str, found: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """What is unsafe by this name of `ALLOW_UNSAFE`: a problem, unless it is allowed."""
    if message := (settings.unsafe if found is None else found).get(name):
        remedy, _, reason = message.removesuffix(".").partition(": ")
        reason = f"{reason or remedy}."
        if name in settings.ALLOW_UNSAFE:
            yield warning(f"{reason} ALLOW_UNSAFE has {name}.", f"{remedy}.")
        elif settings.is_local:
            yield warning(reason, f"{remedy}.")
        else:
            yield problem(reason, f"{remedy}. Where that is meant, add {name} to ALLOW_UNSAFE.")


def _guessable(name: str, server: str = "") -> Iterator[Finding]:
    value = getattr(settings, name).get_secret_value() if getattr(settings, name) else ""
    if value and (is_guessable(value) or _PLACEHOLDER.search(value)):
        where = f" at the {server}, then here" if server else ""
        yield (warning if settings.is_local else problem)(
            f"{name} could be guessed: it has fewer than {SHORTEST_PASSWORD} characters, few "
            "different ones, or a word of an example",
            f"Set a random one{where}; `python3 -c "
            '"import secrets; print(secrets.token_urlsafe(32))"` prints one.',
        )


@check("environment", "ENVIRONMENT is set for where the service runs", "environment")
def _environment(found: str) -> Iterator[Finding]:
    if found != settings.ENVIRONMENT:
        yield problem(
            f"ENVIRONMENT is {found}; the rest is judged as if it were {settings.ENVIRONMENT}",
            "Set ENVIRONMENT=production.",
        )
    elif settings.is_local and (remote := settings.remote_servers):
        yield warning(
            f"ENVIRONMENT is local, and {' and '.join(remote)} is on another machine",
            "Serve there with ENVIRONMENT=production; `make dev` alone may serve like this.",
        )
    else:
        yield fine(f"ENVIRONMENT is {found}")


@check("settings", "no setting is missing, unreadable or in contradiction to another")
def _complete() -> Iterator[Finding]:
    yield from _refused()


@check("setting-names", "each name in .env and [tool.service] is that of a setting")
def _names() -> Iterator[Finding]:
    for what, _, remedy in (message.partition(". ") for message in unknown_settings()):
        yield warning(f"{what}.", remedy)


@check(
    "env-dollar",
    "no value in .env has a $ that Docker Compose replaces",
    when=lambda: dotenv_file().is_file(),
)
def _open_dollars() -> Iterator[Finding]:
    for name in values_with_open_dollar():
        yield warning(
            f"{name} in .env holds a $, which Docker Compose replaces and the service does not",
            "Write its value in single quotes.",
        )


@check(
    "env-mode",
    ".env is readable by its owner alone",
    production=True,
    when=lambda: dotenv_file().is_file(),
)
def _readable_by_others() -> Iterator[Finding]:
    path = dotenv_file()
    if path.stat().st_mode & 0o077:
        yield warning(f"other users of this machine may read {path.name}", f"`chmod 600 {path}`")


@check(
    "container-user",
    "the image does not run as root",
    production=True,
    when=lambda: not DEVSERVICES.is_dir(),
)
def _container_user() -> Iterator[Finding]:
    if os.geteuid() == 0:
        yield warning(
            "the image runs as root",
            "Keep `USER 10001` in the Dockerfile, and set no other user where it is run.",
        )


@check("extensions", "the settings of extensions are complete, and nothing in them is unsafe")
def _of_extensions() -> Iterator[Finding]:
    unsafe = settings.unsafe_of_extensions
    for line in _lines(extension_problems(settings.ENABLED_EXTENSIONS)):
        if not line.endswith(_endings(unsafe)):
            yield _split(line)
    for name in unsafe:
        yield from _unsafe(name, unsafe)


@check(
    "allowed-unsafe",
    "ALLOW_UNSAFE has no name that nothing needs",
    when=lambda: not settings.is_local,  # there, other servers stand in
)
def _needlessly_allowed() -> Iterator[Finding]:
    needed = settings.unsafe | settings.unsafe_of_extensions
    for name in sorted({*settings.ALLOW_UNSAFE} - needed.keys()):
        yield warning(
            f"ALLOW_UNSAFE has {name}, which nothing here needs", f"Remove {name} from it."
        )


@check("secret-key", "SECRET_KEY is set, random, and 32 characters long or more")
def _secret_key() -> Iterator[Finding]:
    yield from _refused("SECRET_KEY") or _guessable("SECRET_KEY")


@check("flower-password", "FLOWER_PASSWORD is set, and could not be guessed")
def _flower_password() -> Iterator[Finding]:
    if not settings.is_local and not settings.FLOWER_PASSWORD:
        yield warning("FLOWER_PASSWORD is not set, so Flower does not start", "Set a random one.")
    yield from _guessable("FLOWER_PASSWORD")


check("database-password", "the database's password could not be guessed")(
    partial(_guessable, "POSTGRES_PASSWORD", "database")
)


@check("redis-password", "a Redis on another machine asks for a password that is no guess")
def _redis_password() -> Iterator[Finding]:
    yield from _unsafe("redis-without-password")
    yield from _guessable("REDIS_PASSWORD", "Redis")


@check(
    "database-tls",
    "the database on another machine is reached over TLS, and its certificate verified",
    when=lambda: "PostgreSQL" in settings.remote_servers,
)
def _database_tls() -> Iterator[Finding]:
    yield from _unsafe("database-without-tls")
    if settings.sslmode == "require":
        yield warning(
            "the connection is encrypted, but the server's certificate is not verified",
            "Download it from the provider's dashboard and name its file in POSTGRES_CA_FILE.",
        )


@check(
    "redis-tls",
    "the Redis on another machine is reached over TLS, and its certificate verified",
    when=lambda: "Redis" in settings.remote_servers,
)
def _redis_tls() -> Iterator[Finding]:
    yield from _unsafe("redis-without-tls")
    if settings.REDIS_TLS and not settings.REDIS_TLS_VERIFY:
        yield warning(
            "the connection is encrypted, but the server's certificate is not verified",
            "Where the provider has one to download, name its file in REDIS_CA_FILE and remove "
            "REDIS_TLS_VERIFY.",
        )


@check("pooler", "POSTGRES_POOLER is the mode that host and port name")
def _pooler() -> Iterator[Finding]:
    expected = settings.recognised_pooler or settings.pooler_mode
    if not settings.uses_local_postgres and settings.pooler_mode != expected:
        yield problem(
            f"{settings.POSTGRES_HOST}:{settings.POSTGRES_PORT} is a pooler in {expected} mode, "
            f"but POSTGRES_POOLER is {settings.pooler_mode}",
            "Remove POSTGRES_POOLER: the mode follows from host and port.",
        )


@check("database-address", "the database has no address that needs IPv6")
def _database_address() -> Iterator[Finding]:
    host = settings.POSTGRES_HOST or ""
    if SUPABASE_PROJECT_HOST.fullmatch(host) and not settings.uses_local_postgres:
        is_pooler = settings.POSTGRES_PORT == SUPABASE_TRANSACTION_PORT
        yield warning(
            f"{host} is Supabase's {'dedicated pooler' if is_pooler else 'direct connection'}, "
            "which has IPv6 only",
            "Where that fails, paste the shared pooler's connection string into DATABASE_URL.",
        )


@check("database-budget", "the database's plan allows the connections of all processes")
def _database_budget() -> Iterator[Finding]:
    budget = postgres_budget(settings)
    message = f"connections: {budget.spelled_out()}"
    yield problem(message, postgres_remedy(settings)) if budget.is_exceeded else fine(message)


@check("redis-budget", "the plan of Redis allows the connections of all processes")
def _redis_budget() -> Iterator[Finding]:
    budget = redis_budget(settings)
    message = f"connections: {budget.spelled_out()}"
    yield problem(message, redis_remedy()) if budget.is_exceeded else fine(message)


@check("cors-origins", "CORS_ORIGINS lists origins as browsers send them, and not all")
def _cors_origins() -> Iterator[Finding]:
    yield from (found := [*_refused("CORS_ORIGINS"), *_unsafe("any-cors-origin")])
    for origin in settings.allowed_origins if not found else ():
        if not _ORIGIN.fullmatch(origin):
            yield problem(
                f"{origin} is not what a browser sends, so its pages may not call the API",
                "Write scheme and host alone, in small letters, as https://app.example.com.",
            )


@check(
    "hosts",
    "ALLOWED_HOSTS lists the names by which the API is reached",
    when=lambda: not settings.is_local,
)
def _hosts() -> Iterator[Finding]:
    if not settings.ALLOWED_HOSTS or "*" in settings.ALLOWED_HOSTS:
        yield warning(
            "the API answers to any name, also one that someone else made up",
            "Set ALLOWED_HOSTS to the names by which it is reached, as api.example.com.",
        )


@check("proxies", "FORWARDED_ALLOW_IPS names the proxies, and not everyone")
def _proxies() -> Iterator[Finding]:
    believed = ", ".join(settings.FORWARDED_ALLOW_IPS) or "no one"
    yield from [*_unsafe("any-proxy")] or [fine(f"X-Forwarded-For is believed from {believed}")]


check("login-throttle", "guesses at the admin's log-in are limited")(
    partial(_unsafe, "weak-login-throttle")
)
check("admin-sessions", "an administrator's session ends within 30 days")(
    partial(_unsafe, "long-admin-sessions")
)


@check("rate-limit", "the requests of one caller are limited", production=True)
def _rate_limit() -> Iterator[Finding]:
    if not settings.rate_limit:
        yield warning(
            "API_RATE_LIMIT is 0: one caller can occupy the API",
            "Remove it, or set it to what a caller may need in a minute.",
        )


@check("log-level", "LOG_LEVEL is not DEBUG", production=True)
def _log_level() -> Iterator[Finding]:
    if settings.LOG_LEVEL == "DEBUG":
        yield warning(
            "LOG_LEVEL is DEBUG: libraries log what they send and receive", "Remove LOG_LEVEL."
        )


@check("content-policy", "pages run scripts from named origins alone", production=True)
def _content_policy() -> Iterator[Finding]:
    parts = map(str.split, settings.API_CONTENT_SECURITY_POLICY.lower().split(";"))
    rules = {part[0]: part[1:] for part in parts if part}
    scripts = rules.get("script-src", rules.get("default-src", ["*"]))
    if found := _ANY_SCRIPT.intersection(scripts):
        yield warning(
            f"API_CONTENT_SECURITY_POLICY lets scripts run by {', '.join(sorted(found))}, so text "
            "that someone typed can become code in a page",
            "Name origins instead, as script-src 'self' https://cdn.example.com.",
        )


_FROM_ELSEWHERE = ((b"origin", b"https://elsewhere.example"), (b"sec-fetch-site", b"cross-site"))


@check("code", "the service and its extensions import", "code")
def _code() -> Iterator[Finding]:
    yield from ()  # this is asked once they have


@check("migration-forks", "each branch of migrations has one head", "code")
def _migration_forks() -> Iterator[Finding]:
    for what, _, remedy in (fork.partition(". ") for fork in explain_forks(script_directory())):
        yield problem(f"{what}.", remedy)


@check("debug", "errors are answered without stack traces", "application", production=True)
def _debug(application: FastAPI) -> Iterator[Finding]:
    if application.debug:
        yield problem(
            "FastAPI's debug is on: errors are answered with stack traces",
            "Remove debug=True in app/main.py.",
        )


@check("security-headers", "an answer has the security headers", "application", production=True)
def _security_headers(application: FastAPI) -> Iterator[Finding]:
    _, headers = _ask(application, "GET", "/health/live")
    for name, value in settings.security_headers.items():
        if (found := headers.get(name.lower())) != value:
            yield (warning if found else problem)(
                f"an answer has {name} {found or 'not at all'}, expected {value}",
                "In app/main.py, keep `middleware=middleware_stack()`, and no middleware that sets "
                "it.",
            )


@check(
    "cross-site", "the admin refuses a form that another site sends", "application", production=True
)
def _cross_site(application: FastAPI) -> Iterator[Finding]:
    status, _ = _ask(application, "POST", f"{ADMIN_PATH}/login", *_FROM_ELSEWHERE)
    if status != HTTPStatus.FORBIDDEN:
        yield problem(
            f"the admin answers {status} to a form that another site sends, not 403",
            "In app/main.py, keep `setup_admin(app)`, and nothing of yours at /admin.",
        )


def _ask(
    application: FastAPI, method: str, path: str, *headers: tuple[bytes, bytes]
) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer, without a server and without the steps of a start."""
    started: Message = {}
    host = next(iter(settings.ALLOWED_HOSTS), "localhost")  # a pattern allows itself
    request = {"type": "http", "http_version": "1.1", "scheme": "https", "method": method}
    address = {"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": ""}
    peers = {"client": ("127.0.0.1", 0), "server": ("127.0.0.1", 443), "asgi": {"version": "3.0"}}
    scope = {**request, **address, **peers, "headers": [(b"host", host.encode()), *headers]}

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.update(message)

    logging.disable(logging.INFO)  # the line of the access log
    try:
        asyncio.run(application(scope, receive, send))
    finally:
        logging.disable(logging.NOTSET)
    sent = {name.decode().lower(): value.decode("latin-1") for name, value in started["headers"]}
    return started["status"], sent


MEMORY_WARNING = 0.8
"""Share of Redis's memory above which a warning is due."""

OLDEST_POSTGRES = 15
MOST_CLOCK_SECONDS = 30
LATE_SECONDS = 900
# By the names that they have in containers and on platforms too.
BEAT = "beat (celery-beat in docker-compose.yml, or `make dev` in development)"
WORKER_AND_BEAT = f"a worker (celery-worker) and {BEAT}"
_LIMITS = """
SELECT least(
    current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int,
    (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()),
    (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user))
"""

LONG_TRANSACTION_SECONDS = 900
SHORT_TRANSACTION_SECONDS = 5
"""After which a transaction that others wait for is reported."""
_HOLDERS = """
SELECT held.pid, held.application_name, coalesce(held.state, 'of another user'),
    coalesce(extract(epoch FROM clock_timestamp() - held.xact_start), :long)::int AS seconds,
    count(waiting.pid)
FROM pg_stat_activity held
LEFT JOIN pg_stat_activity waiting ON held.pid = ANY (pg_blocking_pids(waiting.pid))
WHERE held.datname = current_database() AND held.pid <> pg_backend_pid()
    AND held.backend_type = 'client backend' AND cardinality(pg_blocking_pids(held.pid)) = 0
GROUP BY 1, 2, 3, 4, held.xact_start
HAVING held.xact_start < clock_timestamp() - :long * interval '1 s' OR count(waiting.pid) > 0
    AND coalesce(held.xact_start < clock_timestamp() - :short * interval '1 s', true)
ORDER BY count(waiting.pid) DESC, seconds DESC
"""

SEQUENCE_WARNING = 0.8
_SEQUENCES = """
SELECT format('%I.%I', nspname, relname), refobjid::regclass::text, quote_ident(attname), seqmax
FROM pg_sequence JOIN pg_class ON pg_class.oid = seqrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
JOIN pg_depend ON objid = seqrelid AND classid = 'pg_class'::regclass AND deptype IN ('a', 'i')
JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
WHERE pg_has_role(relowner, 'USAGE') AND seqincrement > 0
    AND atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) ORDER BY 1
"""

SEARCHED_WITHOUT_INDEX = 200_000
"""Rows of a table up to which a search reads all of them within 0.2 s."""
_UNINDEXED = """
SELECT attname AS column, reltuples::bigint AS rows
FROM pg_class
JOIN pg_attribute ON attrelid = pg_class.oid AND attname = ANY (CAST(:columns AS text[]))
JOIN pg_type ON pg_type.oid = atttypid AND typcategory = 'S'
WHERE pg_class.oid = to_regclass(:table) AND reltuples > :most AND NOT EXISTS (
    SELECT FROM pg_index
    JOIN pg_opclass ON pg_opclass.oid = ANY (indclass) AND opcname ~ '^gi(n|st)_trgm_ops$'
    WHERE indrelid = pg_class.oid AND attnum = ANY (indkey) AND indisvalid)
ORDER BY attnum
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
        yield fine(f"PostgreSQL {version}, pooler mode {settings.pooler_mode}")


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


@check("locks", "no transaction holds others up, or is open for long", "database")
def _locks(connection: Connection) -> Iterator[Finding]:
    asked = {"long": LONG_TRANSACTION_SECONDS, "short": SHORT_TRANSACTION_SECONDS}
    for pid, name, state, seconds, waiting in connection.execute(text(_HOLDERS), asked):
        yield warning(
            f"process {pid} of the database ({name or 'without a name'}, {state}) has a "
            f"transaction open for {seconds} s, for whose locks {waiting} others wait",
            f"If it is not meant, end it: `SELECT pg_terminate_backend({pid})`",
        )


@check("sequences", "sequences are ahead of their columns", "database", production=True)
def _sequences(connection: Connection) -> Iterator[Finding]:
    for name, table, column, most in connection.execute(text(_SEQUENCES)).all():
        # S608: PostgreSQL has quoted the names.
        query = f"SELECT (SELECT max({column}) FROM {table}), last_value, is_called FROM {name}"  # noqa: S608
        largest, last, is_used = connection.execute(text(query)).one()
        if largest is not None and largest >= last + is_used:
            yield problem(
                f"{name} is at {last}, and {table} has {largest} already: new rows are refused",
                f"`SELECT setval('{name}', (SELECT max({column}) FROM {table}))`",  # noqa: S608
            )
        elif last > SEQUENCE_WARNING * most:
            yield warning(
                f"{name} has used up {last} of {most} numbers; then new rows are refused",
                f"Make {table}.{column} a `BigInteger`, as a type that is changed in production.",
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
    if state.missing:
        lacks = f"the database lacks {', '.join(state.missing)}"
        yield problem(lacks, "See the warning." if ahead else "Run `make db-upgrade`.")


@check("row-security", "row level security covers all tables and views of public", "database")
def _row_security(connection: Connection) -> Iterator[Finding]:
    if remedies := row_security_remedies(connection):
        yield problem(
            f"row level security does not cover {', '.join(remedies)}: on Supabase, anyone with "
            "the project's URL and public key can read them",
            f"In a migration: {' '.join(remedies.values())}",
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
    for backlog in read_backlogs(connection):
        if backlog.overdue_seconds > LATE_SECONDS:
            yield warning(
                f"{backlog.waiting} rows of {backlog.table} wait, and the first of them has been "
                f"due for {backlog.overdue_seconds / 60:.0f} minutes",
                f"Start {WORKER_AND_BEAT}, and look at their logs.",
            )


@check(
    "searches", "searches of the admin in large tables have an index", "database", production=True
)
def _searches(connection: Connection) -> Iterator[Finding]:
    quoted = connection.dialect.identifier_preparer
    for view in model_views(service.application):
        mapper: Mapper[Any] = inspect(view.model)
        names = {*mapper.columns.keys()} & {*view._search_fields}  # noqa: SLF001
        columns = [mapper.columns[name].name for name in names]
        table = quoted.format_table(mapper.local_table)
        asked = {"table": table, "columns": columns, "most": SEARCHED_WITHOUT_INDEX}
        if found := connection.execute(text(_UNINDEXED), asked).all():
            index = quoted.quote(f"ix_{mapper.local_table}_search")
            indexed = ", ".join(f"{quoted.quote(each.column)} gin_trgm_ops" for each in found)
            yield warning(
                f"the admin searches {', '.join(each.column for each in found)} of {table}, about "
                f"{found[0].rows:,} rows, without an index",
                "Run in a revision `CREATE EXTENSION IF NOT EXISTS pg_trgm` and "
                f"`CREATE INDEX CONCURRENTLY {index} ON {table} USING gin ({indexed})`, and write "
                "the same as an Index in app/models/.",
            )


@check("redis", "Redis can be reached", "redis")
def _redis(status: RedisStatus) -> Iterator[Finding]:
    yield fine(f"version {status.version}, TLS {'on' if settings.REDIS_TLS else 'off'}")


@check("redis-memory", "Redis's memory is not nearly full", "redis")
def _memory(status: RedisStatus) -> Iterator[Finding]:
    limit = status.memory_limit_bytes
    message = f"{status.used_memory_bytes / 2**20:.1f} MiB in use"
    message += f" of {limit / 2**20:.1f} MiB" if limit else ", no limit of its own"
    if limit and status.used_memory_bytes > MEMORY_WARNING * limit:
        yield warning(message, "Lower CELERY_RESULT_EXPIRES, or choose a larger plan.")
    else:
        yield fine(message)


@check("redis-limit", "Redis allows the connections of all processes", "redis")
def _connection_limit(status: RedisStatus) -> Iterator[Finding]:
    budget = redis_budget(settings)
    real = replace(budget, limit=status.connection_limit, limit_name=status.connection_limit_name)
    if real.is_exceeded and not budget.is_exceeded:
        yield problem(
            f"connections: {real.spelled_out()}",
            f"Set REDIS_CONNECTION_LIMIT={real.limit} and run fewer processes, or choose a larger "
            "plan.",
        )


@check("redis-connections", "Redis has connections left", "redis")
def _connections(status: RedisStatus) -> Iterator[Finding]:
    used = (
        f"{status.connected_clients} connections in use of {status.connection_limit_name} "
        f"{status.connection_limit}"
    )
    if status.connected_clients >= status.connection_limit:
        remedy = "Run `make connections` to see whose they are; stop what is not needed."
        yield problem(used, remedy)
    else:
        yield fine(used)


@check("redis-eviction", "Redis evicts neither results nor waiting tasks", "redis")
def _eviction(status: RedisStatus) -> Iterator[Finding]:
    if status.eviction_policy != "noeviction":
        yield warning(
            f"the eviction policy is {status.eviction_policy}, which may evict results, "
            "and with an allkeys policy waiting tasks too",
            "Set the eviction policy to noeviction, in the provider's dashboard or with "
            "`CONFIG SET maxmemory-policy noeviction`",
        )


@check("redis-persistence", "Redis writes each task to its disk", "redis", production=True)
def _persistence(status: RedisStatus) -> Iterator[Finding]:
    if status.is_persistent is False:
        yield warning(
            "the append-only file is off: a restart of Redis loses waiting tasks",
            "Turn it on, in the provider's dashboard or with `CONFIG SET appendonly yes`",
        )


@check("beat", "beat runs the schedule", "redis")
def _beat(status: RedisStatus) -> Iterator[Finding]:
    if status.beat_lock_age_seconds is None:
        yield warning("none is running, no schedule runs", f"Start {BEAT}.")
    else:
        yield fine(f"holds its lock, renewed {status.beat_lock_age_seconds:.0f} s ago")


@check("heartbeat", "a worker runs what beat sends", "redis")
def _heartbeat(status: RedisStatus) -> Iterator[Finding]:
    if status.is_heartbeat_late:
        yield warning(
            "no worker has run beat's task in the last minutes",
            f"Start {WORKER_AND_BEAT}, and look at their logs.",
        )
    else:
        yield fine(f"a worker ran beat's task {status.heartbeat_age_seconds:.0f} s ago")


@check("dead-letters", "no task was given up", "redis")
def _dead_letters(status: RedisStatus) -> Iterator[Finding]:
    if status.dead_letters:
        yield warning(f"{status.dead_letters} tasks were given up", "Run `make dead-letters`.")


@check("unnamed-proxy", "FORWARDED_ALLOW_IPS names the proxies that were noticed", "redis")
def _unnamed_proxy(status: RedisStatus) -> Iterator[Finding]:
    if status.unnamed_proxy and not _is_named(status.unnamed_proxy):
        message, _, remedy = UNNAMED_PROXY.partition(". ")
        yield warning(f"{status.unnamed_proxy} {message}", remedy)


def _is_named(address: str) -> bool:
    with suppress(ValueError):  # a Unix socket has no address
        named = (ip_network(each) for each in settings.FORWARDED_ALLOW_IPS if each != "*")
        return any(ip_address(address) in network for network in named)
    return False
