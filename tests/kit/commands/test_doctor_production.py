"""`doctor --production`: each fault fails its check alone until its remedy is carried out."""

import asyncio
import json
import logging
import os
import re
import secrets
import shlex
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import SecretStr, model_validator
from pydantic_settings import SettingsConfigDict
from sqlalchemy import Column, Engine, Integer, Table, text
from sqlmodel import Session, SQLModel
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kit import extensions
from kit.commands import dead_letters, doctor
from kit.commands.token import create, revoke
from kit.doctor import CHECKS, Finding, Level, _service, examine
from kit.extensions import EXTENSIONS_DIR
from kit.migrations import init_db
from kit.outbox import due_index
from kit.places import service
from kit.queue._tasks import UNNAMED_PROXY_KEY, heartbeat
from kit.redis import DEAD_LETTERS_KEY
from kit.settings import BASE_DIR, ServiceSettings, Settings, StartupError, _base, settings
from kit.testing import (
    QueueProcess,
    RedisServer,
    change_settings,
    create_database,
    drop_database,
    empty_database,
    free_port,
)
from kit.testing._databases import database_engine
from kit.tests.link import Link, received

pytestmark = pytest.mark.slow

COMMAND = re.compile(r"`([^`]+)`")
SSL_REQUEST = bytes.fromhex("04d2162f")
"""Source: https://www.postgresql.org/docs/current/protocol-message-formats.html"""
LONG_SECRET = SecretStr(secrets.token_urlsafe(32))


def commands(finding: Finding) -> list[str]:
    """The commands and statements that a remedy prints."""
    return COMMAND.findall(finding.remedy)


def processes(finding: Finding) -> set[str]:
    """The processes that a remedy calls as docker-compose.yml does."""
    compose = (BASE_DIR / "docker-compose.yml").read_text(encoding="utf-8")
    services = re.findall(r"^  ([a-z-]+):$", compose, re.MULTILINE)
    return {name for name in services if re.search(rf"\b{name}\b(?!-)", finding.remedy)}


class Production:
    """A service whose settings and servers are in order, for a test to break."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, folder: Path, certificates: Path, database: str
    ) -> None:
        self.monkeypatch = monkeypatch
        self.certificates = certificates
        self.dotenv = folder / ".env"
        self.environment: str | None = None
        self.hosts: dict[str, int] = {}
        self.redis: RedisServer
        self.links = ExitStack()
        self.monkeypatch.setenv("DOTENV_FILE", str(self.dotenv))
        self.monkeypatch.setattr(Settings, "unsafe_of_extensions", {})
        self.write("")
        self.set(
            ENVIRONMENT="production",
            ALLOW_UNSAFE=[],
            SECRET_KEY=LONG_SECRET,
            CORS_ORIGINS=["https://app.example.com"],
            ALLOWED_HOSTS=["api.example.com"],
            FLOWER_PASSWORD=LONG_SECRET,
            POSTGRES_DB=database,
            POSTGRES_POOLER=None,
            POSTGRES_CONNECTION_LIMIT=15,
            REDIS_CONNECTION_LIMIT=30,
        )
        self.monkeypatch.setattr(service.module("main"), "configure_logging", lambda: None)
        self.build_application()

    def set(self, **values: object) -> None:
        change_settings(self.monkeypatch, **values)

    def write(self, dotenv: str) -> None:
        self.dotenv.write_text(dotenv, encoding="utf-8")
        self.dotenv.chmod(0o600)
        _base.dotenv_table.cache_clear()

    def build_application(self) -> FastAPI:
        """Have the service make its application anew, by the settings of now."""
        main: Any = service.module("main")
        made: FastAPI = main.create_app()
        self.monkeypatch.setattr(main, "app", made)
        return made

    @property
    def engine(self) -> Engine:
        """Of the database as its operator reaches it, in autocommit."""
        return database_engine(settings.POSTGRES_DB)

    def sql(self, *statements: str) -> None:
        with self.engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def redis_command(self, *words: str) -> None:
        with closing(self.redis.client()) as client:
            client.execute_command(*words)

    def beat_and_worker_run(self) -> None:
        """Leave in Redis what beat and a worker leave there."""
        lock = f"{service.celery_app.conf.redbeat_key_prefix}:lock"
        self.redis_command("SET", lock, "held", "PX", "25000")
        heartbeat()

    def map(self, host: str, port: int) -> None:
        """Have a name of the internet lead to a port of this machine, as /etc/hosts would."""
        self.hosts[host] = port

    def use_tls(self, host: str) -> None:
        """Have a host of the database, on another machine, speak TLS."""
        link = self.links.enter_context(TlsLink(self.certificates, settings.POSTGRES_PORT))
        self.map(host, link.port)
        self.set(POSTGRES_HOST=host, POSTGRES_SSLMODE=None)
        self.set(POSTGRES_CA_FILE=self.certificates / "ca.crt")

    def failing(self) -> dict[str, list[Finding]]:
        """What is found wrong, by the id of the check."""
        results = examine(production=True, environment=self.environment)
        return {
            each.id: [finding for finding in each.findings if finding.level is not Level.FINE]
            for each in results
            if each.level in (Level.WARNING, Level.PROBLEM)
        }


@pytest.fixture(scope="module")
def database(test_database: str) -> Iterator[str]:
    """Name of a database with the service's tables, for this module."""
    name = f"doctor_{secrets.token_hex(4)}_test"
    create_database(name)
    empty_database(name)
    with pytest.MonkeyPatch.context() as monkeypatch:
        change_settings(monkeypatch, POSTGRES_DB=name)
        asyncio.run(init_db())
    yield name
    drop_database(name)


@pytest.fixture(scope="module")
def names(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for the names of databases that the faults use."""
    folder = tmp_path_factory.mktemp("names")
    (folder / "ca.crt").write_bytes((certificates / "ca.crt").read_bytes())
    hosts = "subjectAltName=DNS:db.example.com,DNS:*.pooler.supabase.com,DNS:db.abc.supabase.co"
    (folder / "names").write_text(f"{hosts}\nauthorityKeyIdentifier=keyid\n")
    authority = ["-CA", certificates / "ca.crt", "-CAkey", certificates / "ca.key"]
    request = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for arguments in (
        ["req", *request, "-subj", "/CN=db", "-keyout", "db.key", "-out", "db.csr"],
        [
            *("x509", "-req", "-in", "db.csr", *authority, "-CAcreateserial"),
            *("-CAserial", "db.srl", "-extfile", "names", "-out", "db.crt"),
        ],
    ):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
    return folder


class TlsLink(Link):
    """Puts TLS before PostgreSQL, as a pooler does; a client that asks for none has none."""

    def __init__(self, certificates: Path, port: int) -> None:
        super().__init__("127.0.0.1", port)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates / "db.crt", certificates / "db.key")

    def join(self, near: socket.socket) -> None:
        if near.recv(8, socket.MSG_PEEK)[4:] == SSL_REQUEST:
            near.recv(8)
            near.sendall(b"S")
            with suppress(OSError):
                near = self._context.wrap_socket(near, server_side=True)
                self._sockets.append(near)
        far = self.connect()
        for source, target in ((near, far), (far, near)):
            threading.Thread(target=carry, args=(source, target), daemon=True).start()


def carry(source: socket.socket, target: socket.socket) -> None:
    """Pass on what arrives, and then the end."""
    with suppress(OSError):
        for data in received(source):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def production(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    names: Path,
    database: str,
    use_redis: Callable[..., RedisServer],
) -> Iterator[Production]:
    made = Production(monkeypatch, tmp_path, names, database)
    made.redis = use_redis("--appendonly", "yes", "--maxmemory", "30mb")
    made.beat_and_worker_run()
    resolve = socket.getaddrinfo

    def resolve_or_map(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        there = ("127.0.0.1", made.hosts[host]) if host in made.hosts else (host, port)
        return resolve(*there, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_or_map)
    with made.links:
        yield made
    monkeypatch.undo()
    _base.dotenv_table.cache_clear()


Fault = Generator[None, Finding, Any]
FAULTS: dict[str, tuple[str, Callable[[Production], Fault]]] = {}
"""By name: the id of the check, and a function that plants the fault, waits for what is found, and
does what the remedy says."""


def fault(check: str) -> Callable[[Callable[[Production], Fault]], None]:
    return lambda plant: FAULTS.update({plant.__name__: (check, plant)})


def changed(
    name: str, check: str, remedy: str, wrong: dict[str, object], right: dict[str, object]
) -> None:
    """A fault of settings alone, and the settings after a remedy that has this text."""

    def plant(production: Production) -> Fault:
        production.set(**wrong)
        production.build_application()
        finding = yield
        assert remedy in finding.remedy
        production.set(**right)
        production.build_application()

    FAULTS[name] = (check, plant)


@fault("environment")
def environment_forgotten(production: Production) -> Fault:
    production.environment = "local"
    finding = yield
    assert finding.message.startswith("ENVIRONMENT is local; the rest is judged as")
    found = re.fullmatch(r"Set ENVIRONMENT=(\w+)\.", finding.remedy)
    assert found
    production.environment = found[1]


@fault("setting-names")
def a_name_is_misspelt(production: Production) -> Fault:
    production.write("ALOWED_HOSTS=api.example.com\n")
    finding = yield
    found = re.fullmatch(r"Did you mean (\w+)\?", finding.remedy)
    assert found
    production.write(f"{found[1]}=api.example.com\n")


@fault("env-dollar")
def a_dollar_is_open(production: Production) -> Fault:
    production.write("PROJECT_NAME=a$b\n")
    finding = yield
    assert "PROJECT_NAME" in finding.message
    assert "single quotes" in finding.remedy
    production.write("PROJECT_NAME='a$b'\n")


@fault("env-mode")
def others_may_read_it(production: Production) -> Fault:
    production.dotenv.chmod(0o640)
    finding = yield
    [command] = commands(finding)
    subprocess.run(shlex.split(command), check=True)


@fault("container-user")
def the_image_runs_as_root(production: Production) -> Fault:
    production.monkeypatch.setattr(_service, "DEVSERVICES", Path("not in an image"))
    production.monkeypatch.setattr(os, "geteuid", lambda: 0)
    finding = yield
    found = re.search(r"`USER (\d+)`", finding.remedy)
    assert found
    assert found[0].strip("`") in (BASE_DIR / "Dockerfile").read_text()
    production.monkeypatch.setattr(os, "geteuid", lambda: int(found[1]))


class ProbeSettings(ServiceSettings):
    """Settings as those of an extension, one of which opens the service."""

    model_config = SettingsConfigDict(env_prefix="DOCTOR_PROBE_")

    OPEN: bool = False

    @model_validator(mode="after")
    def _refuse_open(self) -> "ProbeSettings":
        if self.OPEN:
            settings.refuse_unsafe("probe-open", "Set DOCTOR_PROBE_OPEN=false.")
        return self


@fault("extensions")
def an_extension_is_open(production: Production) -> Fault:
    production.monkeypatch.setenv("DOCTOR_PROBE_OPEN", "true")
    with pytest.raises(StartupError):
        ProbeSettings.load()
    finding = yield
    assert finding.message == "Set DOCTOR_PROBE_OPEN=false."  # it gives no reason
    found = re.match(r"Set (\w+)=(\w+)\.", finding.remedy)
    assert found
    production.monkeypatch.setenv(found[1], found[2])
    Settings.unsafe_of_extensions.clear()  # as another process would begin
    ProbeSettings.load()


PROBE = """
from pydantic import model_validator
from pydantic_settings import SettingsConfigDict
from app.core.config import ServiceSettings, settings

class ProbeSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="DOCTOR_PROBE_")

    KEY: str | None = None

    @model_validator(mode="after")
    def _require(self):
        if not (self.KEY or settings.is_local):
            raise ValueError("DOCTOR_PROBE_KEY is not set: set it to a key")
        return self

ProbeSettings.load()
"""


@fault("extensions")
def an_extension_lacks_a_setting(production: Production) -> Fault:
    folder = production.dotenv.with_name("extensions")
    folder.mkdir()
    for each in EXTENSIONS_DIR.glob("*/"):
        (folder / each.name).symlink_to(each)
    (folder / "doctor_probe").mkdir()
    (folder / "doctor_probe" / "__init__.py").touch()
    (folder / "doctor_probe" / "settings.py").write_text(PROBE)
    production.monkeypatch.setattr(extensions, "EXTENSIONS_DIR", folder)
    production.monkeypatch.setattr(service.module("extensions"), "__path__", [str(folder)])
    production.set(ENABLED_EXTENSIONS=[*settings.ENABLED_EXTENSIONS, "doctor_probe"])
    finding = yield
    assert finding == (Level.PROBLEM, "DOCTOR_PROBE_KEY is not set", "Set it to a key")
    production.monkeypatch.setenv("DOCTOR_PROBE_KEY", "a key")
    assert production.failing() == {}
    for name in [each for each in sys.modules if each.startswith("app.extensions.doctor_probe")]:
        del sys.modules[name]


@fault("code")
def an_extension_is_not_there(production: Production) -> Fault:
    enabled = settings.ENABLED_EXTENSIONS
    production.set(ENABLED_EXTENSIONS=[*enabled, "nowhere"])
    finding = yield
    assert "nowhere" in finding.message
    production.set(ENABLED_EXTENSIONS=enabled)


@fault("secret-key")
def the_key_is_short(production: Production) -> Fault:
    production.set(SECRET_KEY=SecretStr("0123456789abcdefghij"))
    finding = yield
    assert "longer random text" in finding.remedy
    production.set(SECRET_KEY=LONG_SECRET)


@fault("secret-key")
def the_key_repeats(production: Production) -> Fault:
    production.set(SECRET_KEY=SecretStr("a" * 40))
    finding = yield
    production.set(SECRET_KEY=SecretStr(printed_secret(finding)))


@fault("secret-key")
def the_key_is_an_example(production: Production) -> Fault:
    production.set(SECRET_KEY=SecretStr("your-key-goes-here-please-change-it"))
    finding = yield
    assert "a word of an example" in finding.message
    production.set(SECRET_KEY=SecretStr(printed_secret(finding)))


def printed_secret(finding: Finding) -> str:
    """What the command prints that a remedy names."""
    [command] = commands(finding)
    arguments = [sys.executable, *shlex.split(command)[1:]]
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.strip()


@fault("secret-key")
def the_key_is_missing(production: Production) -> Fault:
    production.set(SECRET_KEY=None)
    finding = yield
    production.set(SECRET_KEY=SecretStr(printed_secret(finding)))


@fault("flower-password")
def flower_has_a_weak_one(production: Production) -> Fault:
    production.set(FLOWER_PASSWORD=SecretStr("flower"))
    finding = yield
    production.set(FLOWER_PASSWORD=SecretStr(printed_secret(finding)))


@fault("database-password")
def the_database_has_a_weak_one(production: Production) -> Fault:
    admin = {name: getattr(settings, name) for name in ("POSTGRES_USER", "POSTGRES_PASSWORD")}
    role = f"weak_{secrets.token_hex(4)}"
    production.sql(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'postgres'")
    production.set(POSTGRES_USER=role, POSTGRES_PASSWORD=SecretStr("postgres"))
    finding = yield
    assert "at the database, then here" in finding.remedy
    password = printed_secret(finding)
    production.sql(f"ALTER ROLE {role} PASSWORD '{password}'")
    production.set(POSTGRES_PASSWORD=SecretStr(password))
    assert production.failing() == {}
    production.set(**admin)
    production.sql(f"DROP ROLE {role}")


@fault("redis-password")
def redis_has_a_weak_one(production: Production) -> Fault:
    production.set(REDIS_PASSWORD=SecretStr("redis"))
    finding = yield
    assert "at the Redis, then here" in finding.remedy
    production.set(REDIS_PASSWORD=SecretStr(printed_secret(finding)))


@fault("database-tls")
def the_certificate_is_not_verified(production: Production) -> Fault:
    production.use_tls("db.example.com")
    production.set(POSTGRES_CA_FILE=None)
    finding = yield
    assert "name its file in POSTGRES_CA_FILE" in finding.remedy
    production.set(POSTGRES_CA_FILE=production.certificates / "ca.crt")


@fault("database-tls")
def the_database_is_reached_in_clear(production: Production) -> Fault:
    production.use_tls("db.example.com")
    production.set(POSTGRES_CA_FILE=None, POSTGRES_SSLMODE="disable")
    finding = yield
    assert "Remove sslmode=disable or POSTGRES_SSLMODE" in finding.remedy
    production.set(POSTGRES_SSLMODE=None)
    [then] = production.failing()["database-tls"]
    assert "name its file in POSTGRES_CA_FILE" in then.remedy
    production.set(POSTGRES_CA_FILE=production.certificates / "ca.crt")


@fault("pooler")
def the_pooler_has_another_mode(production: Production) -> Fault:
    host = "aws-0-eu-west-1.pooler.supabase.com"
    production.use_tls(host)
    production.set(POSTGRES_PORT=6543, POSTGRES_POOLER="session")
    finding = yield
    assert "Remove POSTGRES_POOLER" in finding.remedy
    production.set(POSTGRES_POOLER=None)


@fault("database-address")
def the_address_needs_ipv6(production: Production) -> Fault:
    production.use_tls("db.abc.supabase.co")
    finding = yield
    assert "paste the shared pooler's connection string" in finding.remedy
    production.map("aws-0-eu-west-1.pooler.supabase.com", production.hosts["db.abc.supabase.co"])
    production.set(POSTGRES_HOST="aws-0-eu-west-1.pooler.supabase.com", POSTGRES_PORT=5432)


REMOTE_REDIS = {"REDIS_HOST": "redis.example.com", "REDIS_PASSWORD": LONG_SECRET}
IN_CLEAR = ["redis-without-tls"]

for row in (
    (
        "tasks_run_too_long",
        *("settings", "Correct it: .env.example"),
        {"CELERY_TASK_MAX_SECONDS": 7200},
        {"CELERY_TASK_MAX_SECONDS": 1800},
    ),
    (
        "more_is_allowed_than_needed",
        *("allowed-unsafe", "Remove any-proxy from it."),
        *({"ALLOW_UNSAFE": ["any-proxy"]}, {"ALLOW_UNSAFE": []}),
    ),
    (
        "flower_has_none",
        *("flower-password", "Set a random one."),
        *({"FLOWER_PASSWORD": None}, {"FLOWER_PASSWORD": LONG_SECRET}),
    ),
    (
        "redis_has_no_password",
        *("redis-password", "Set REDIS_PASSWORD."),
        REMOTE_REDIS | {"REDIS_TLS": True, "REDIS_PASSWORD": None},
        {"REDIS_PASSWORD": LONG_SECRET},
    ),
    (
        "redis_is_reached_in_clear",
        *("redis-tls", "Set REDIS_TLS=true"),
        *(REMOTE_REDIS | {"REDIS_TLS": False}, {"REDIS_TLS": True}),
    ),
    (
        "redis_in_clear_is_allowed",
        *("redis-tls", "Set REDIS_TLS=true"),
        REMOTE_REDIS | {"REDIS_TLS": False, "ALLOW_UNSAFE": IN_CLEAR},
        {"REDIS_TLS": True, "ALLOW_UNSAFE": []},
    ),
    (
        "redis_is_not_verified",
        *("redis-tls", "name its file in REDIS_CA_FILE and remove REDIS_TLS_VERIFY"),
        REMOTE_REDIS | {"REDIS_TLS": True, "REDIS_TLS_VERIFY": False},
        {"REDIS_CA_FILE": Path("ca.crt"), "REDIS_TLS_VERIFY": True},
    ),
    (
        "too_large_a_pool",
        *("database-budget", "Lower POSTGRES_POOL_SIZE"),
        *({"POSTGRES_POOL_SIZE": 20}, {"POSTGRES_POOL_SIZE": 5}),
    ),
    (
        "too_many_workers",
        *("redis-budget", "Run fewer processes (API_INSTANCES, API_WORKERS, CELERY_WORKERS"),
        *({"CELERY_WORKERS": 6}, {"CELERY_WORKERS": 1}),
    ),
    (
        "no_origin_is_listed",
        *("cors-origins", "List them, separated by commas, as https://app.example.com"),
        *({"CORS_ORIGINS": []}, {"CORS_ORIGINS": ["https://app.example.com"]}),
    ),
    (
        "all_origins_are_listed",
        *("cors-origins", "List the origins that call the API in CORS_ORIGINS"),
        *({"CORS_ORIGINS": ["*"]}, {"CORS_ORIGINS": ["https://app.example.com"]}),
    ),
    *(
        (
            f"an_origin_is_none:{wrong}",
            *("cors-origins", "Write scheme and host alone, in small letters"),
            *({"CORS_ORIGINS": [wrong]}, {"CORS_ORIGINS": ["https://app.example.com"]}),
        )
        for wrong in (
            "https://app.example.com/",
            "app.example.com",
            "https://App.example.com",
            "https://app.example.com:443",
        )
    ),
    *(
        (
            f"hosts_are_open:{wrong}",
            *("hosts", "Set ALLOWED_HOSTS to the names by which it is reached"),
            *({"ALLOWED_HOSTS": wrong}, {"ALLOWED_HOSTS": ["api.example.com"]}),
        )
        for wrong in ([], ["*"])
    ),
    (
        "anyone_is_a_proxy",
        *("proxies", "Name the proxy's network in FORWARDED_ALLOW_IPS, as 10.0.0.0/8"),
        *({"FORWARDED_ALLOW_IPS": ["*"]}, {"FORWARDED_ALLOW_IPS": ["10.0.0.0/8"]}),
    ),
    (
        "logins_are_not_limited",
        *("login-throttle", "Lower ADMIN_LOGIN_ATTEMPTS"),
        *({"ADMIN_LOGIN_ATTEMPTS": 1000}, {"ADMIN_LOGIN_ATTEMPTS": 5}),
    ),
    (
        "sessions_last",
        *("admin-sessions", "Lower ADMIN_SESSION_SECONDS to 2592000"),
        *({"ADMIN_SESSION_SECONDS": 90 * 86400}, {"ADMIN_SESSION_SECONDS": 2592000}),
    ),
    (
        "callers_are_not_limited",
        *("rate-limit", "Remove it"),
        *({"API_RATE_LIMIT": 0}, {"API_RATE_LIMIT": None}),
    ),
    (
        "logs_say_too_much",
        *("log-level", "Remove LOG_LEVEL."),
        *({"LOG_LEVEL": "DEBUG"}, {"LOG_LEVEL": "INFO"}),
    ),
    *(
        (
            f"any_script_runs:{policy}",
            *("content-policy", "script-src 'self' https://cdn.example.com"),
            {"API_CONTENT_SECURITY_POLICY": policy},
            {"API_CONTENT_SECURITY_POLICY": "script-src 'self' https://cdn.example.com"},
        )
        for policy in ("default-src 'self'; Script-Src 'unsafe-inline'", "img-src 'self'")
    ),
):
    changed(*row)  # type: ignore[arg-type]


class FramedByAnyone:
    """Middleware that sets a header, as one may that an owner adds."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_own(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-frame-options", b"ALLOWALL")]
            await send(message)

        await self.app(scope, receive, send_with_own)


@fault("security-headers")
def a_header_is_changed(production: Production) -> Fault:
    production.build_application().add_middleware(FramedByAnyone)
    finding = yield
    assert "X-Frame-Options ALLOWALL, expected DENY" in finding.message
    assert "no middleware that sets it" in finding.remedy
    production.build_application()


@fault("debug")
def debug_is_on(production: Production) -> Fault:
    service.application.debug = True
    finding = yield
    assert "Remove debug=True in app/main.py" in finding.remedy
    production.build_application()


@fault("cross-site")
def the_admin_is_replaced(production: Production) -> Fault:
    own = Route("/admin/login", lambda _: PlainTextResponse("Welcome"), methods=["POST"])
    production.build_application().router.routes.insert(0, own)
    finding = yield
    assert "answers 200" in finding.message
    assert "nothing of yours at /admin" in finding.remedy
    production.build_application()


def test_an_application_without_the_kits_middleware(production: Production) -> None:
    production.monkeypatch.setattr(service.module("main"), "middleware_stack", list)
    production.build_application()

    failing = production.failing()

    assert list(failing) == ["security-headers"]
    assert {each.level for each in failing["security-headers"]} == {Level.PROBLEM}
    missing = [each.message.split()[3] for each in failing["security-headers"]]
    assert missing == list(settings.security_headers)


@fault("database")
def the_database_is_away(production: Production) -> Fault:
    port = settings.POSTGRES_PORT
    production.set(POSTGRES_PORT=free_port())
    finding = yield
    assert "Start it, or correct" in finding.remedy
    production.set(POSTGRES_PORT=port)


@fault("database")
def the_database_is_old(production: Production) -> Fault:
    production.monkeypatch.setattr(_service, "OLDEST_POSTGRES", 99)
    finding = yield
    assert "Upgrade the server to PostgreSQL" in finding.remedy
    production.monkeypatch.setattr(_service, "OLDEST_POSTGRES", 15)


@fault("database")
def a_table_is_locked(production: Production) -> Fault:
    production.set(POSTGRES_COMMAND_TIMEOUT=0.5)
    with production.engine.connect() as connection:
        connection.execution_options(isolation_level="READ COMMITTED")
        connection.execute(text("LOCK TABLE api_token"))
        finding = yield
        assert finding.message == "the database did not answer within 0.5 s"
        [statement] = commands(finding)
        assert connection.execute(text(statement)).all()
    production.set(POSTGRES_COMMAND_TIMEOUT=10.0)


@fault("database-writable")
def the_database_is_read_only(production: Production) -> Fault:
    name = settings.POSTGRES_DB
    production.sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    finding = yield
    production.sql(*commands(finding))


@fault("locks")
def a_forgotten_transaction_holds_others_up(production: Production) -> Fault:
    production.monkeypatch.setattr(_service, "SHORT_TRANSACTION_SECONDS", 0)
    production.sql('CREATE SCHEMA aside CREATE TABLE "in use" (id int)')
    table = 'LOCK TABLE aside."in use"'
    with production.engine.connect() as holder, production.engine.connect() as waiting:
        for each in (holder, waiting):
            each.execution_options(isolation_level="READ COMMITTED")
        holder.execute(text(table))
        pid = holder.scalar(text("SELECT pg_backend_pid()"))
        assert production.failing() == {}
        waiter = threading.Thread(target=waiting.execute, args=(text(table),))
        waiter.start()
        while "locks" not in production.failing():
            assert waiter.is_alive()
        finding = yield
        assert f"process {pid} " in finding.message
        assert "idle in transaction" in finding.message
        assert "for whose locks 1 others wait" in finding.message
        production.sql(*commands(finding))
        waiter.join()
        holder.invalidate()
    production.sql("DROP SCHEMA aside CASCADE")


@fault("locks")
def a_transaction_is_open_for_long(production: Production) -> Fault:
    with production.engine.connect() as holder:
        holder.execution_options(isolation_level="READ COMMITTED")
        holder.execute(text("SELECT 1"))
        assert production.failing() == {}
        production.monkeypatch.setattr(_service, "LONG_TRANSACTION_SECONDS", 0)
        finding = yield
        production.sql(*commands(finding))
        holder.invalidate()


@fault("sequences")
def a_sequence_is_behind(production: Production) -> Fault:
    production.sql(
        'CREATE SCHEMA "a side" CREATE TABLE "a part" ("Id" int GENERATED BY DEFAULT AS IDENTITY)',
        'INSERT INTO "a side"."a part" VALUES (1)',  # as a dump of rows, or an import, does
    )
    finding = yield
    assert "has 1 already" in finding.message
    production.sql(*commands(finding))
    assert production.failing() == {}
    production.sql('DROP SCHEMA "a side" CASCADE')


@fault("sequences")
def a_sequence_runs_out(production: Production) -> Fault:
    production.sql(
        'CREATE SCHEMA "a side" CREATE TABLE "a part" (id serial)',
        """SELECT setval('"a side"."a part_id_seq"', 1800000000)""",
    )
    finding = yield
    assert "1800000000 of 2147483647" in finding.message
    assert commands(finding) == ["BigInteger"]
    production.sql('DROP SCHEMA "a side" CASCADE')


@fault("migrations")
def a_migration_is_missing(production: Production) -> Fault:
    own = settings.POSTGRES_DB
    name = f"behind_{secrets.token_hex(4)}_test"
    create_database(name)
    production.set(POSTGRES_DB=name)
    finding = yield
    assert commands(finding) == ["make db-upgrade"]
    url = production.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    environment = os.environ | {"DATABASE_URL": url, "POSTGRES_DB": name}
    alembic = [sys.executable, "-m", "alembic", "upgrade", "heads"]  # as that does
    subprocess.run(alembic, cwd=BASE_DIR, env=environment, check=True, capture_output=True)
    assert production.failing() == {}
    production.set(POSTGRES_DB=own)
    drop_database(name)


@fault("row-security")
def a_table_is_published(production: Production) -> Fault:
    production.sql('CREATE TABLE "open to all" (id int)')
    finding = yield
    production.sql(*re.findall(r"ALTER TABLE .*?;", finding.remedy))
    assert production.failing() == {}
    production.sql('DROP TABLE "open to all"')


@fault("database-limit")
def the_server_allows_fewer(production: Production) -> Fault:
    name = settings.POSTGRES_DB
    production.sql(f'ALTER DATABASE "{name}" CONNECTION LIMIT 5')
    finding = yield
    found = re.match(r"Set POSTGRES_CONNECTION_LIMIT=(\d+) ", finding.remedy)
    assert found
    production.set(POSTGRES_CONNECTION_LIMIT=int(found[1]))
    assert production.failing() == {}
    production.sql(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')


@fault("clock")
def the_clock_is_wrong(production: Production) -> Fault:
    class Late(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) - timedelta(minutes=2)

    production.monkeypatch.setattr(_service, "datetime", Late)
    finding = yield
    assert "120 s off" in finding.message
    assert commands(finding) == ["timedatectl set-ntp true"]
    production.monkeypatch.setattr(_service, "datetime", datetime)


@fault("api-tokens")
def a_token_never_expires(production: Production) -> Fault:
    with Session(production.engine) as session:
        create(session, "nightly job")
        session.commit()
    finding = yield
    another, revocation = map(shlex.split, commands(finding))
    assert another == ["make", "token", "name=nightly job 2", "expires=365d"]
    assert revocation == ["make", "token-revoke", "name=nightly job"]
    with Session(production.engine) as session:
        create(session, "nightly job 2", expires="365d")
        revoke(session, "nightly job")
        session.commit()


@fault("outboxes")
def a_row_is_not_sent(production: Production) -> Fault:
    columns = [Column(name, Integer) for name in ("state", "due_at", "attempts")]
    table = Table("doctor probe", SQLModel.metadata, *columns, due_index())
    production.sql(
        'CREATE TABLE "doctor probe" (state text, due_at timestamptz, attempts int)',
        'ALTER TABLE "doctor probe" ENABLE ROW LEVEL SECURITY',
        """INSERT INTO "doctor probe" VALUES
           ('sent', now() - interval '1 day', 1), ('queued', now() - interval '14 minutes', 0),
           ('sending', now() + interval '1 day', 1)""",
    )
    assert production.failing() == {}
    production.sql("UPDATE \"doctor probe\" SET due_at = now() - interval '1 hour'")
    finding = yield
    assert finding.message.startswith("2 rows of")
    assert processes(finding) == {"celery-worker", "celery-beat"}
    production.sql("UPDATE \"doctor probe\" SET state = 'sent'")  # as the worker does
    assert production.failing() == {}
    SQLModel.metadata.remove(table)
    production.sql('DROP TABLE "doctor probe"')


@fault("searches")
def a_search_reads_a_large_table(production: Production) -> Fault:
    assert production.failing() == {}
    production.sql("UPDATE pg_class SET reltuples = 1e6 WHERE relname = 'audit_entry'")
    finding = yield
    assert finding.message.startswith(
        "the admin searches actor, client, subject_type, subject_id of audit_entry"
    )
    production.sql(*commands(finding))
    assert production.failing() == {}
    production.sql("DROP INDEX ix_audit_entry_search", "ANALYZE audit_entry")


@fault("redis")
def redis_is_away(production: Production) -> Fault:
    production.redis.kill()
    finding = yield
    assert finding.remedy.startswith("Start it")
    production.redis.start()
    production.beat_and_worker_run()


@fault("redis-memory")
def redis_is_nearly_full(production: Production) -> Fault:
    production.redis_command("SETRANGE", "results", str(26 * 2**20), "x")
    finding = yield
    assert "Lower CELERY_RESULT_EXPIRES" in finding.remedy
    production.redis_command("DEL", "results")  # as they expire


@fault("redis-limit")
def redis_allows_fewer(production: Production) -> Fault:
    production.redis_command("CONFIG", "SET", "maxclients", "11")
    finding = yield
    found = re.match(r"Set REDIS_CONNECTION_LIMIT=(\d+) and run fewer", finding.remedy)
    assert found
    production.set(REDIS_CONNECTION_LIMIT=int(found[1]), REDIS_POOL_SIZE=1)


@fault("redis-connections")
def no_connection_is_left(production: Production) -> Fault:
    clients = [production.redis.client() for _ in range(30)]
    for client in clients:
        client.ping()
    finding = yield
    assert "stop what is not needed" in finding.remedy
    for client in clients:
        client.close()
    with closing(production.redis.client()) as client:
        while client.info("clients")["connected_clients"] > 5:
            pass


@fault("redis-eviction")
def redis_evicts(production: Production) -> Fault:
    production.redis_command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    finding = yield
    [command] = commands(finding)
    production.redis_command(*command.split())


@fault("redis-persistence")
def redis_forgets(production: Production) -> Fault:
    production.redis_command("CONFIG", "SET", "appendonly", "no")
    finding = yield
    [command] = commands(finding)
    production.redis_command(*command.split())


@fault("beat")
def no_beat_runs(production: Production) -> Fault:
    production.redis_command("DEL", f"{service.celery_app.conf.redbeat_key_prefix}:lock")
    finding = yield
    assert processes(finding) == {"celery-beat"}
    with QueueProcess("beat", REDIS_URL=production.redis.url) as beat:  # as that does
        beat.wait_for("Acquired lock", "Starting")
        while "beat" in production.failing():
            assert beat.is_running(), beat.output
    production.beat_and_worker_run()


@fault("heartbeat")
def no_worker_runs(production: Production) -> Fault:
    production.redis_command("DEL", f"{settings.REDIS_KEY_PREFIX}heartbeat")
    finding = yield
    assert "celery-worker" in processes(finding)
    heartbeat()  # as a worker does


@fault("dead-letters")
def a_task_was_given_up(production: Production) -> Fault:
    headers = {"id": "b83caca6", "task": "app.tasks.ping"}
    letter = {"message": [{"headers": headers}], "given_up_at": 0, "reason": "lost its worker"}
    production.redis_command("LPUSH", DEAD_LETTERS_KEY, json.dumps(letter))
    finding = yield
    assert commands(finding) == ["make dead-letters"]
    assert dead_letters.main(["--drop", "all"]) == 0


@fault("unnamed-proxy")
def a_proxy_is_not_named(production: Production) -> Fault:
    production.redis_command("SET", UNNAMED_PROXY_KEY, "10.0.0.7")
    finding = yield
    assert "add its address or network there" in finding.remedy
    production.set(FORWARDED_ALLOW_IPS=["127.0.0.1", finding.message.split()[0]])


FORKS = "migration-forks"
"""Planted and fixed in `kit/tests/migrations/test_forks.py`, in a service of its own."""


def test_every_check_has_its_fault() -> None:
    assert {check for check, _ in FAULTS.values()} | {FORKS} == CHECKS.keys()
    assert FORKS not in {check for check, _ in FAULTS.values()}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_fails_its_check_alone_until_its_remedy_is_carried_out(
    production: Production, name: str
) -> None:
    check, plant = FAULTS[name]
    assert production.failing() == {}
    fault = plant(production)
    next(fault)

    failing = production.failing()

    assert list(failing) == [check], failing
    [finding] = failing[check]
    assert finding.message
    assert finding.remedy
    assert ".." not in f"{finding.message} {finding.remedy}"
    with pytest.raises(StopIteration):
        fault.send(finding)
    assert production.failing() == {}


def test_an_api_that_is_reached_by_names_of_a_pattern(production: Production) -> None:
    production.set(ALLOWED_HOSTS=["*.example.com"])
    assert production.failing() == {}


class TestCommand:
    """`python -m kit.commands.doctor`."""

    @pytest.fixture(autouse=True)
    def _as_a_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Settings, "collected", None)  # which the command sets, for good
        monkeypatch.setenv("ENVIRONMENT", "production")

    def test_json_is_one_document_for_programs(
        self,
        production: Production,
        capsys: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO)
        production.set(ALLOWED_HOSTS=[], CORS_ORIGINS=["https://app.example.com/"])
        # As an owner's module may, when it is imported.
        production.monkeypatch.setattr(service, "load", lambda: sys.stdout.write("hello"))

        status = doctor.main(["--production", "--json", "--skip", "beat, database"])

        read = json.loads(capsys.readouterr().out)
        checks = {each["id"]: each for each in read["checks"]}
        assert (status, read["problems"], read["warnings"]) == (1, 1, 1), read
        assert checks.keys() == CHECKS.keys() - {"beat", "database"}
        levels = [each["level"] for each in read["checks"]]
        assert set(levels) == {"ok", "warning", "problem", "not-applicable"}
        assert (read["schema"], read["production"], read["environment"]) == (1, True, "production")
        assert read["passed"] == levels.count("ok") == read["applicable"] - 2
        assert read["applicable"] == len(levels) - levels.count("not-applicable")
        assert checks["migrations"] == {
            "id": "migrations",
            "level": "not-applicable",
            "asks": CHECKS["migrations"].asks,
            "findings": [],
        }
        assert "/admin" not in caplog.text
        [finding] = checks["hosts"]["findings"]
        assert (checks["hosts"]["level"], finding["level"]) == ("warning", "warning")
        assert finding["message"]
        assert finding["remedy"].startswith("Set ALLOWED_HOSTS")

    @pytest.mark.parametrize(
        ("changes", "strict", "status"),
        [
            ({}, True, 0),
            ({"ALLOWED_HOSTS": []}, False, 0),
            ({"ALLOWED_HOSTS": []}, True, 1),
            ({"CORS_ORIGINS": ["*"]}, False, 1),
        ],
    )
    def test_it_ends_with_1_for_problems_and_if_strict_for_warnings(
        self,
        production: Production,
        capsys: pytest.CaptureFixture[str],
        changes: dict[str, object],
        *,
        strict: bool,
        status: int,
    ) -> None:
        production.set(**changes)

        assert doctor.main(["--production", *(["--strict"] if strict else [])]) == status

        *_, last = capsys.readouterr().out.splitlines()
        found = re.fullmatch(r"(\d+) of (\d+) checks pass: (\d) problems?, (\d) warnings?", last)
        assert found
        passed, applicable, problems, warnings = map(int, found.groups())
        assert applicable - passed == problems + warnings == len(changes)
        assert ("problem," in last, last.endswith("warning")) == (problems == 1, warnings == 1)

    def test_a_check_that_does_not_exist_cannot_be_skipped(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit, match="2"):
            doctor.main(["--skip", "hosts,cellar"])
        assert (
            "--skip: no cellar, expected admin-sessions, allowed-unsafe," in capsys.readouterr().err
        )

    def run(self, *arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "kit.commands.doctor", *arguments],
            cwd=BASE_DIR,
            env=os.environ | changes,
            capture_output=True,
            text=True,
            check=False,
        )

    def test_a_developers_machine_is_judged_as_if_it_were_production(self) -> None:
        """In a terminal of 80 columns, where a command that is longer stays on one line."""
        nothing = dict.fromkeys([*PRODUCTION, "DATABASE_URL", "REDIS_URL"], "")
        command = [sys.executable, "-m", "kit.commands.doctor", "--production"]
        command += ["--skip", "database,redis"]  # pyproject.toml may name some
        environment = os.environ | nothing | {"COLUMNS": "80", "ENVIRONMENT": "prod"}
        near, far = os.openpty()
        with subprocess.Popen(
            command, cwd=BASE_DIR, env=environment, stdout=far, stderr=subprocess.PIPE, text=True
        ) as process:
            os.close(far)
            output = ""
            with os.fdopen(near, encoding="utf-8") as terminal, suppress(OSError):  # its end
                for line in terminal:
                    output += line
            _, errors = process.communicate()

        assert (process.returncode, errors) == (1, "")
        said = " ".join(output.split())
        assert "problem environment: ENVIRONMENT is prod; the rest" in said
        assert re.search("(no database is configured|POSTGRES_PASSWORD is not set) and ENV", said)
        assert "problem secret-key: SECRET_KEY is not set" in said
        assert "PostgreSQL 1" not in said  # none was started
        long = [line for line in output.splitlines() if len(line) > 80]
        assert [line for line in long if "`" not in line] == []
        assert '`python3 -c "import secrets; print(secrets.token_urlsafe(32))"`' in output

    def test_a_file_takes_the_place_of_dotenv(self, test_database: str, tmp_path: Path) -> None:
        path = tmp_path / ".env.production"
        lines = [f"{name}='{value}'" for name, value in PRODUCTION.items()]
        path.write_text("\n".join([*lines, "ALOWED_HOSTS=api.example.com"]))
        path.chmod(0o644)
        # What the trees of this test differ in; Redis has what other tests have left.
        skip = "extensions,migrations,code,allowed-unsafe,redis"
        options = ("--production", "--env-file", os.path.relpath(path, BASE_DIR), "--skip", skip)

        done = self.run(*options, **dict.fromkeys(PRODUCTION, ""))

        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert f"`chmod 600 {path}`" in done.stdout
        assert "ALOWED_HOSTS is set in .env.production, but no setting" in done.stdout
        assert "ENVIRONMENT is production" in done.stdout
        assert "problems, 2 warnings" in done.stdout

    def test_a_file_that_is_not_there(self) -> None:
        done = self.run("--env-file", "nowhere")

        assert (done.returncode, done.stdout) == (2, "")
        assert "there is no file nowhere" in done.stderr


PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": LONG_SECRET.get_secret_value(),
    "FLOWER_PASSWORD": LONG_SECRET.get_secret_value(),
    "CORS_ORIGINS": "none",
    "ALLOWED_HOSTS": "api.example.com",
    "POSTGRES_POOLER": "none",
    "ALLOW_UNSAFE": "",
}
