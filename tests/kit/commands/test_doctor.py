import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.config import BASE_DIR, Settings, settings
from kit.doctor import CHECKS, Finding, Level, _service, examine
from kit.doctor._service import judge_migrations
from kit.migrations import MigrationState
from kit.queue import RedisStatus

HEALTHY = RedisStatus(
    version="8.0",
    used_memory_bytes=2**20,
    memory_limit_bytes=30 * 2**20,
    eviction_policy="noeviction",
    connected_clients=9,
    connection_limit=30,
    connection_limit_name="REDIS_CONNECTION_LIMIT",
    beat_lock_age_seconds=1.0,
    heartbeat_age_seconds=30.0,
)
AT_HEADS = MigrationState(frozenset({"core_0001"}), missing=[], unknown=[], has_tables=True)


def wrong(name: str, *arguments: object) -> list[Finding]:
    """What this check finds, without what is fine."""
    found = CHECKS[name].find(*arguments) if CHECKS[name].applies() else ()
    return [each for each in found if each.level is not Level.FINE]


def configure(monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    # What the test run itself is configured with stands in the environment.
    own: dict[str, Any] = dict.fromkeys(
        ["DATABASE_URL", "REDIS_URL", "POSTGRES_SSLMODE", "POSTGRES_POOLER"]
    ) | {"REDIS_TLS": False}
    parts = {**own, **values}
    monkeypatch.setattr(_service, "settings", Settings(_env_file=None, **parts))
    # Other tests of this process may have set an extension's.
    monkeypatch.setattr(Settings, "unsafe_of_extensions", {})


@pytest.mark.parametrize(
    ("change", "level", "expected"),
    [
        ({"used_memory_bytes": 29 * 2**20}, Level.WARNING, "29.0 MiB in use of 30.0 MiB"),
        ({"eviction_policy": "allkeys-lru"}, Level.WARNING, "waiting tasks"),
        (
            {"connected_clients": 30},
            Level.PROBLEM,
            "30 connections in use of REDIS_CONNECTION_LIMIT 30",
        ),
        (
            {"connection_limit": 11, "connection_limit_name": "the server's maxclients"},
            Level.PROBLEM,
            "= 12 of the server's maxclients 11",
        ),
        ({"beat_lock_age_seconds": None}, Level.WARNING, "no schedule runs"),
        ({"heartbeat_age_seconds": None}, Level.WARNING, "beat's task"),
        ({"heartbeat_age_seconds": 200.0}, Level.WARNING, "beat's task"),
        ({"dead_letters": 2}, Level.WARNING, "2 tasks were given up"),
        ({"is_persistent": False}, Level.WARNING, "loses waiting tasks"),
        ({"is_persistent": None, "memory_limit_bytes": None}, None, ""),
    ],
)
def test_what_is_wrong_with_redis(
    change: dict[str, Any], level: Level | None, expected: str
) -> None:
    found = of_redis(replace(HEALTHY, **change))

    assert [each.level for each in found] == ([level] if level else [])
    assert all(expected in each.message and each.remedy for each in found)


def of_redis(status: RedisStatus) -> list[Finding]:
    names = [name for name, each in CHECKS.items() if each.need == "redis"]
    return [finding for name in names for finding in wrong(name, status)]


def test_nothing_is_wrong_with_a_healthy_redis() -> None:
    assert of_redis(HEALTHY) == []


@pytest.mark.parametrize(
    ("change", "level", "expected"),
    [
        ({"missing": ["core_0002"]}, Level.PROBLEM, "lacks core_0002"),
        ({"unknown": ["hotel_0001"]}, Level.WARNING, "make db-forget extension=hotel"),
        ({"unknown": ["3f2a91c0aaaa"]}, Level.WARNING, "ahead of this code"),
    ],
)
def test_what_is_wrong_with_migrations(change: dict[str, Any], level: Level, expected: str) -> None:
    [found] = judge_migrations(AT_HEADS._replace(**change))

    assert found.level is level
    assert expected in f"{found.message} {found.remedy}"


OUTSIDE = {
    "ENVIRONMENT": "staging",
    "SECRET_KEY": "k3yThatNobodyCouldGuess-0123456789",
    "POSTGRES_HOST": "db.example.com",
    "POSTGRES_PASSWORD": "correct horse battery",
    "REDIS_HOST": "redis.example.com",
    "REDIS_PASSWORD": "staple correct horse",
    "REDIS_TLS": True,
    "ALLOW_UNSAFE": ["weak-secrets"],
    "FLOWER_PASSWORD": "horse staple battery",
    "CORS_ORIGINS": "none",
}


class TestSecrets:
    @pytest.mark.parametrize(
        ("values", "names"),
        [
            ({}, []),
            ({"POSTGRES_PASSWORD": "postgres"}, ["POSTGRES_PASSWORD"]),
            ({"REDIS_PASSWORD": "abcabcabcabcabc", "FLOWER_PASSWORD": "flower"}, ["REDIS", "FLOW"]),
        ],
    )
    def test_weak_ones_are_named_with_a_remedy_and_never_shown(
        self, monkeypatch: pytest.MonkeyPatch, values: dict[str, str], names: list[str]
    ) -> None:
        configure(monkeypatch, **(OUTSIDE | values))

        checks = ("secret-key", "database-password", "redis-password", "flower-password")
        found = [finding for name in checks for finding in wrong(name)]

        assert [each.level for each in found] == [Level.PROBLEM] * len(names)
        for finding, name in zip(found, names, strict=True):
            assert finding.message.startswith(name)
            assert "token_urlsafe" in finding.remedy
            assert not any(f" {value}" in str(finding) for value in values.values())

    def test_on_a_developers_machine_it_is_a_warning(self, monkeypatch: pytest.MonkeyPatch) -> None:
        configure(monkeypatch, POSTGRES_HOST="db.example.com", POSTGRES_PASSWORD="secret")

        [found] = wrong("database-password")

        assert found.level is Level.WARNING
        assert "at the database" in found.remedy


@pytest.mark.parametrize(
    ("values", "level", "expected"),
    [
        (
            {
                "POSTGRES_HOST": "aws-0-eu-west-1.pooler.supabase.com",
                "POSTGRES_PORT": 6543,
                "POSTGRES_PASSWORD": "p",
                "POSTGRES_POOLER": "session",
            },
            Level.PROBLEM,
            "is a pooler in transaction mode, but POSTGRES_POOLER is session",
        ),
        (
            {
                "POSTGRES_HOST": "db.abc.supabase.co",
                "POSTGRES_PORT": 5432,
                "POSTGRES_PASSWORD": "p",
            },
            Level.WARNING,
            "direct connection, which has IPv6",
        ),
        (
            {
                "POSTGRES_HOST": "db.abc.supabase.co",
                "POSTGRES_PORT": 6543,
                "POSTGRES_PASSWORD": "p",
            },
            Level.WARNING,
            "dedicated pooler, which has IPv6",
        ),
    ],
)
def test_what_is_wrong_with_the_pooler(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], level: Level, expected: str
) -> None:
    configure(monkeypatch, **values)

    found = wrong("pooler") + wrong("database-address")

    assert [each.level for each in found] == [level]
    assert expected in found[0].message


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"API_WORKERS": 4, "POSTGRES_POOL_SIZE": 5},
            "connections: 4 API x 5 + 4 admin x 1 + 1 worker x 1 + 1 for commands = 26 of",
        ),
        (
            {"CELERY_WORKERS": 6, "REDIS_CONNECTION_LIMIT": 30},
            "connections: 1 API x 2 + 6 worker x 4 + 1 beat x 2 + 1 Flower x 3 + 1 for",
        ),
    ],
)
def test_more_processes_than_the_plan_carries(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], expected: str
) -> None:
    configure(monkeypatch, **values)

    [found] = wrong("database-budget") + wrong("redis-budget")

    assert found.level is Level.PROBLEM
    assert found.message.startswith(expected)
    assert "raise" in found.remedy


def test_transport_that_is_not_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(
        monkeypatch,
        POSTGRES_HOST="db.example.com",
        POSTGRES_PASSWORD="p",
        REDIS_HOST="redis.example.com",
        REDIS_PASSWORD="p",
        REDIS_TLS=True,
        REDIS_TLS_VERIFY=False,
    )

    database, redis = [each.message for each in wrong("database-tls") + wrong("redis-tls")]

    assert "not verified" in database
    assert "not verified" in redis


class TestUnsafe:
    """Settings that open the service to strangers, and are allowed."""

    def found(self) -> list[str]:
        checks = ("redis-tls", "proxies", "hosts", "allowed-unsafe")
        found = [finding for name in checks for finding in wrong(name)]
        assert {each.level for each in found} == {Level.WARNING}
        return [f"{each.message} {each.remedy}" for each in found]

    def test_what_is_named_is_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names = ["redis-without-tls", "any-proxy"]
        hosts = ["api.example.com"]
        changes = {"REDIS_TLS": False, "ALLOW_UNSAFE": names, "ALLOWED_HOSTS": hosts}
        configure(monkeypatch, **(OUTSIDE | changes))

        without_tls, unneeded = self.found()

        assert "ALLOW_UNSAFE has redis-without-tls. Set REDIS_TLS=true" in without_tls
        assert unneeded.endswith("any-proxy, which nothing here needs Remove any-proxy from it.")

    def test_in_local_all_of_it_is_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        configure(
            monkeypatch,
            FORWARDED_ALLOW_IPS=["*"],
            POSTGRES_HOST="db.example.com",
            POSTGRES_PASSWORD="p",
        )

        [proxies] = self.found()
        [remote] = wrong("environment", "local")

        assert "callers make up the address" in proxies
        assert "ENVIRONMENT is local, and PostgreSQL is on another machine" in remote.message


async def test_a_table_without_row_level_security(connection: AsyncConnection) -> None:
    await connection.execute(text('CREATE TABLE "open to all" (id int)'))

    [found] = await connection.run_sync(lambda sync: wrong("row-security", sync))

    assert found.level is Level.PROBLEM
    assert 'ALTER TABLE "open to all" ENABLE ROW LEVEL SECURITY;' in found.remedy


@pytest.mark.parametrize(
    "made",
    [
        'CREATE VIEW "all tokens" AS SELECT * FROM api_token',
        'CREATE VIEW "all tokens" WITH (security_invoker = off) AS SELECT * FROM api_token',
        'CREATE MATERIALIZED VIEW "all tokens" AS SELECT * FROM api_token',
    ],
)
async def test_a_view_that_is_read_past_row_level_security(
    connection: AsyncConnection, made: str
) -> None:
    # As Supabase has it.
    await connection.execute(text("CREATE ROLE anon"))
    await connection.execute(text("CREATE ROLE authenticated"))
    await connection.execute(
        text("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated")
    )
    await connection.execute(text(made))

    [found] = await connection.run_sync(lambda sync: wrong("row-security", sync))

    assert found.level is Level.PROBLEM
    assert 'does not cover "all tokens":' in found.message
    await connection.execute(text(found.remedy.removeprefix("In a migration: ")))
    assert await connection.run_sync(lambda sync: wrong("row-security", sync)) == []


@pytest.mark.slow
def test_doctor_on_the_servers_of_this_run(test_database: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "kit.commands.doctor"],
        cwd=BASE_DIR,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert "at the code's heads" in result.stdout
    assert "row level security covers all tables and views" in result.stdout
    assert "0 problems" in result.stdout
    for secret in (settings.DATABASE_URL, settings.REDIS_URL):
        assert secret not in result.stdout


@pytest.mark.slow
def test_every_missing_setting_is_listed_and_the_rest_is_checked(test_database: str) -> None:
    """Of core and of all extensions, in one run, each once."""
    table = tomllib.loads((BASE_DIR / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    named = "redis_host" in table["service"]  # by an answer; then its password is missing
    redis = "whoever reaches Redis can" if named else "no Redis is configured"
    settings_of_core = ("SECRET_KEY", "CORS_ORIGINS", redis)
    environment = os.environ | {"ENVIRONMENT": "production", "API_PORT": "x"}
    for name in ("REDIS_URL", "SECRET_KEY", "CORS_ORIGINS"):
        environment.pop(name, None)
    result = subprocess.run(
        [sys.executable, "-m", "kit.commands.doctor"],
        cwd=BASE_DIR,
        env=environment | {"DATABASE_URL": test_database},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (1, "")
    problems = [line for line in result.stdout.splitlines() if line.startswith("problem")]
    for name in ("API_PORT", *settings_of_core):
        assert len([line for line in problems if line.split(maxsplit=2)[2].startswith(name)]) == 1
    assert "database: PostgreSQL 1" in result.stdout
    assert "migrations: " in result.stdout
    missing = [line for line in problems if line.endswith("not set and ENVIRONMENT is production")]
    assert len(missing) == len(set(missing))


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (["10.0.0.0/8"], "believed from 10.0.0.0/8"),
        ([], "believed from no one"),
    ],
)
def test_proxies(monkeypatch: pytest.MonkeyPatch, addresses: list[str], expected: str) -> None:
    configure(monkeypatch, FORWARDED_ALLOW_IPS=addresses)

    [found] = CHECKS["proxies"].find()

    assert found.level is Level.FINE
    assert expected in found.message


def test_a_certificate_of_redis_that_is_not_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, REDIS_URL="rediss://:p@redis.example.com:6379", REDIS_TLS_VERIFY=False)

    [found] = wrong("redis-tls")

    assert found.level is Level.WARNING
    assert "the connection is encrypted, but the server's" in found.message


def test_what_production_requires_is_asked_of_production_alone(test_database: str) -> None:
    left_out = {each.id for each in examine() if each.level is Level.NOT_APPLICABLE}

    assert left_out >= {name for name, each in CHECKS.items() if each.is_for_production}
    assert left_out.isdisjoint({"settings", "code", "migrations", "row-security", "redis", "beat"})
