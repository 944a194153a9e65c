"""Checks of settings, database and Redis; each finding has its remedy.

`make doctor` ends with status 1 when there is a problem to fix, and with 0 for warnings alone.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from redis.exceptions import RedisError
from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.settings import Settings

if __name__ == "__main__":
    # Before the imports below, which read the settings: wrong ones end every other command.
    Settings.collected = []

from kit.commands import run_command
from kit.connections import postgres_budget, postgres_remedy, redis_budget, redis_remedy
from kit.database import connect, tables_without_row_security
from kit.extensions import load_extensions
from kit.migrations import (
    MigrationState,
    explain_ahead,
    explain_forks,
    explain_orphan,
    read_state,
    script_directory,
)
from kit.places import service
from kit.process import start_local_services
from kit.queue import UNNAMED_PROXY, RedisStatus, read_redis_status
from kit.settings import (
    SHORTEST_PASSWORD,
    SUPABASE_PROJECT_HOST,
    SUPABASE_TRANSACTION_PORT,
    StartupError,
    is_guessable,
    settings,
    unknown_settings,
    values_with_open_dollar,
)

MEMORY_WARNING = 0.8
"""Share of Redis's memory above which a warning is due."""

HEARTBEAT_LATE_SECONDS = 150

SECRETS = ("SECRET_KEY", "POSTGRES_PASSWORD", "REDIS_PASSWORD", "FLOWER_PASSWORD")


class Level(StrEnum):
    """Severity of a finding."""

    FINE = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(NamedTuple):
    """The result of a check, and its remedy."""

    level: Level
    message: str
    remedy: str = ""


def fine(message: str) -> Finding:
    """A finding without a problem."""
    return Finding(Level.FINE, message)


def warning(message: str, remedy: str) -> Finding:
    """A finding that works now, but may become a problem."""
    return Finding(Level.WARNING, message, remedy)


def problem(message: str, remedy: str) -> Finding:
    """A finding that does not work, or is not safe."""
    return Finding(Level.PROBLEM, message, remedy)


def check_settings() -> Iterator[Finding]:
    """Check for missing and unknown ones, and for settings that contradict each other."""
    wrong = [line.strip() for each in Settings.collected or () for line in each.splitlines()]
    yield from (problem(message, "") for message in wrong)
    if not settings.is_local and not settings.FLOWER_PASSWORD:
        yield warning("FLOWER_PASSWORD is not set, so Flower does not start", "Set a random one.")
    try:
        service.load()
        for hook in ("models", "api", "tasks"):
            load_extensions(hook)  # an extension's settings class is known once it is imported
    except StartupError as error:
        messages = map(str.strip, error.message.splitlines())
        yield from (problem(message, "") for message in messages if message not in wrong)
    unknown = unknown_settings()
    for message in unknown:
        name, _, rest = message.partition(". ")
        yield warning(f"{name}.", rest)
    if not unknown and not wrong:
        yield fine(f"settings: ENVIRONMENT is {settings.ENVIRONMENT}, every name is known")
    for name in values_with_open_dollar():
        yield warning(
            f"{name} in .env holds a $, which Docker Compose replaces and the service does not",
            "Write its value in single quotes.",
        )
    yield from check_pooler()
    yield from check_unsafe()
    yield from check_budgets()
    yield from check_transport()
    yield from check_secrets()


def check_pooler() -> Iterator[Finding]:
    """Check that port and mode of the pooler match."""
    if settings.uses_local_postgres:
        return
    host, port = settings.POSTGRES_HOST or "", settings.POSTGRES_PORT
    if SUPABASE_PROJECT_HOST.fullmatch(host):
        pooler = port == SUPABASE_TRANSACTION_PORT
        yield warning(
            f"database: {host} is Supabase's "
            f"{'dedicated pooler' if pooler else 'direct connection'}, which has IPv6 only",
            "Where that fails, paste the shared pooler's connection string into DATABASE_URL.",
        )
    if (expected := settings.recognised_pooler) and settings.pooler_mode != expected:
        yield problem(
            f"database: {host}:{port} is a pooler in {expected} mode, but POSTGRES_POOLER is "
            f"{settings.pooler_mode}",
            "Remove POSTGRES_POOLER: the mode follows from host and port.",
        )


def check_unsafe() -> Iterator[Finding]:
    """Report what is unsafe, but allowed: in local anything, elsewhere what is named."""
    found = settings.unsafe | settings.unsafe_of_extensions
    proxies = ", ".join(settings.FORWARDED_ALLOW_IPS)
    yield fine(f"proxy: X-Forwarded-For is believed from {proxies or 'no one'}")
    for name, message in found.items():
        remedy, _, reason = message.partition(": ")
        if not settings.is_local:
            reason += f" ALLOW_UNSAFE has {name}."
        yield warning(f"unsafe: {reason}", f"{remedy}.")
    for name in settings.ALLOW_UNSAFE:
        if name not in found and not settings.is_local:  # there, other servers stand in
            yield warning(f"ALLOW_UNSAFE has {name}, which nothing here needs", "Remove it.")
    if settings.is_local and (remote := settings.remote_servers):
        yield warning(
            f"ENVIRONMENT is local, and {' and '.join(remote)} is on another machine",
            "Serve there with ENVIRONMENT=production; `make dev` alone may serve like this.",
        )
    if not (settings.is_local or settings.ALLOWED_HOSTS):
        yield warning(
            "hosts: the API answers to any name, also one that someone else made up",
            "Set ALLOWED_HOSTS to the names by which it is reached, as api.example.com.",
        )


def check_budgets() -> Iterator[Finding]:
    """Check that plan and pooler have enough connections for all processes."""
    budgets = [
        ("database", postgres_budget(settings), postgres_remedy(settings)),
        ("redis", redis_budget(settings), redis_remedy()),
    ]
    for server, budget, remedy in budgets:
        message = f"{server} connections: {budget.spelled_out()}"
        yield problem(message, remedy) if budget.is_exceeded else fine(message)


def check_transport() -> Iterator[Finding]:
    """Check that connections over a network are encrypted, and their servers verified."""
    if settings.POSTGRES_HOST and settings.sslmode == "require":
        yield warning(
            "database: the connection is encrypted, but the server's certificate is not verified",
            "Download it from the provider's dashboard and name its file in POSTGRES_CA_FILE.",
        )
    if settings.REDIS_TLS and not settings.REDIS_TLS_VERIFY:
        yield warning(
            "redis: the connection is encrypted, but the server's certificate is not verified",
            "Where the provider has one to download, name its file in REDIS_CA_FILE and remove "
            "REDIS_TLS_VERIFY.",
        )


def check_secrets() -> Iterator[Finding]:
    """Check that no secret could be guessed."""
    weak = [
        name
        for name in SECRETS
        if (value := getattr(settings, name)) and is_guessable(value.get_secret_value())
    ]
    for name in weak:
        found = warning if settings.is_local else problem
        server = {"POSTGRES_PASSWORD": "database", "REDIS_PASSWORD": "Redis"}.get(name)
        where = f" at the {server}, then here" if server else ""
        yield found(
            f"{name} could be guessed: it has fewer than {SHORTEST_PASSWORD} characters, or few "
            "different ones",
            f"Set a random one{where}; `python3 -c "
            '"import secrets; print(secrets.token_urlsafe(24))"` prints one.',
        )
    if not weak:
        yield fine("secrets: none that is set could be guessed")


async def check_database() -> list[Finding]:
    """Check that the database answers, has the code's migrations, and row level security."""
    if not (settings.uses_local_postgres or settings.POSTGRES_HOST):
        return []  # reported with the settings
    try:
        async with connect() as connection:
            version = await connection.scalar(text("SHOW server_version"))
            found = [fine(f"database: PostgreSQL {version}, {settings.pooler_mode} pooler")]
            script = script_directory()
            found += [problem(f"migrations: {fork}", "") for fork in explain_forks(script)]
            found += await connection.run_sync(
                lambda sync: judge_migrations(read_state(sync, script, MetaData()))
            )
            found += await check_row_security(connection)
    except StartupError as error:
        return [problem(f"database: {error.message}", "")]
    return found


def judge_migrations(state: MigrationState) -> list[Finding]:
    """Check whether the service can start with the database's migrations."""
    found = [warning(explain_orphan(extension), "") for extension in state.orphans]
    if state.is_ahead:
        found.append(warning(explain_ahead(state), ""))
    elif state.missing:
        missing = ", ".join(state.missing)
        found.append(problem(f"migrations: the database lacks {missing}", "Run `make db-upgrade`."))
    return found or [fine("migrations: the database is at the code's heads")]


async def check_row_security(connection: AsyncConnection) -> list[Finding]:
    """Check that Supabase's REST API shows no table."""
    bare = await connection.run_sync(tables_without_row_security)
    if not bare:
        return [fine("row level security: on for every table of the schema public")]
    return [
        problem(
            f"row level security is off for {', '.join(bare)}: on Supabase, anyone with the "
            "project's URL and public key can read them",
            "In a migration: "
            + " ".join(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;" for table in bare),
        )
    ]


def check_redis() -> Iterator[Finding]:
    """Check that Redis answers, has room, evicts no tasks, and that beat and worker run."""
    if not (settings.uses_local_redis or settings.REDIS_HOST):
        return  # reported with the settings
    try:
        status = read_redis_status()
    except RedisError as error:
        untrusted = "CERTIFICATE_VERIFY_FAILED" in str(error)
        yield problem(
            f"redis: {type(error).__name__}: {error}",
            "Name the server's certificate in REDIS_CA_FILE or, where the provider has none to "
            "download, set REDIS_TLS_VERIFY=false."
            if untrusted
            else "Start it, or correct REDIS_URL, REDIS_HOST, REDIS_PORT and REDIS_PASSWORD.",
        )
        return
    yield from judge_redis(status)


def judge_redis(status: RedisStatus) -> Iterator[Finding]:
    """Check the state of Redis: eviction, connections, memory, beat and worker."""
    yield fine(f"redis: version {status.version}, TLS {'on' if settings.REDIS_TLS else 'off'}")
    yield judge_memory(status)
    yield from judge_connection_limit(status)
    if status.eviction_policy != "noeviction":
        yield warning(
            f"redis: the eviction policy is {status.eviction_policy}, which may evict results, "
            "and with an allkeys policy waiting tasks too",
            "Set the database's eviction policy to noeviction in the provider's dashboard.",
        )
    used = (
        f"redis connections: {status.connected_clients} in use of {status.connection_limit_name} "
        f"{status.connection_limit}"
    )
    if status.connected_clients >= status.connection_limit:
        yield problem(
            used, "Run `make connections` to see whose they are; stop what is not needed."
        )
    else:
        yield fine(used)
    yield from judge_beat(status)
    if status.unnamed_proxy and not _is_named(status.unnamed_proxy):
        message, _, remedy = UNNAMED_PROXY.partition(". ")
        yield warning(f"proxy: {status.unnamed_proxy} {message}", remedy)


def _is_named(address: str) -> bool:
    with suppress(ValueError):  # a Unix socket has no address
        named = (ip_network(each) for each in settings.FORWARDED_ALLOW_IPS if each != "*")
        return any(ip_address(address) in network for network in named)
    return False


def judge_connection_limit(status: RedisStatus) -> Iterator[Finding]:
    """Check whether the server allows fewer connections than the settings, and too few."""
    budget = redis_budget(settings)
    real = replace(budget, limit=status.connection_limit, limit_name=status.connection_limit_name)
    if real.is_exceeded and not budget.is_exceeded:
        yield problem(
            f"redis connections: {real.spelled_out()}",
            f"Set REDIS_CONNECTION_LIMIT={real.limit} and run fewer processes, or choose a larger "
            "plan.",
        )


def judge_memory(status: RedisStatus) -> Finding:
    """Check whether Redis's memory is nearly full."""
    used = status.used_memory_bytes / 2**20
    if status.memory_limit_bytes is None:
        return fine(f"redis memory: {used:.1f} MiB, no limit of its own")
    limit = status.memory_limit_bytes / 2**20
    message = f"redis memory: {used:.1f} of {limit:.1f} MiB"
    if used > MEMORY_WARNING * limit:
        return warning(message, "Lower CELERY_RESULT_EXPIRES, or choose a larger plan.")
    return fine(message)


def judge_beat(status: RedisStatus) -> Iterator[Finding]:
    """Check whether beat runs its schedule and a worker runs tasks."""
    if status.beat_lock_age_seconds is None:
        yield warning("beat: none is running, no schedule runs", "Run `make beat` or `make dev`.")
    else:
        yield fine(f"beat: holds its lock, renewed {status.beat_lock_age_seconds:.0f} s ago")
    age = status.heartbeat_age_seconds
    if age is None or age > HEARTBEAT_LATE_SECONDS:
        yield warning(
            "heartbeat: no worker has run beat's task in the last minutes",
            "Run `make worker` and `make beat`, or `make dev`, and look at their logs.",
        )
    else:
        yield fine(f"heartbeat: a worker ran beat's task {age:.0f} s ago")
    if status.dead_letters:
        yield warning(f"tasks: {status.dead_letters} were given up", "Run `make dead-letters`.")


def report(findings: list[Finding]) -> int:
    """Print the findings; returns the exit status."""
    for finding in findings:
        print(f"{finding.level:<8} {finding.message}")
        if finding.remedy:
            print(f"{'':<8} -> {finding.remedy}")
    counts = {level: sum(each.level is level for each in findings) for level in Level}
    print(f"{counts[Level.PROBLEM]} problems, {counts[Level.WARNING]} warnings")
    return 1 if counts[Level.PROBLEM] else 0


def main() -> int:
    """Run every check."""
    start_local_services()
    findings = [*check_settings(), *asyncio.run(check_database()), *check_redis()]
    return report(findings)


if __name__ == "__main__":
    run_command(main)
