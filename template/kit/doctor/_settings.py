"""Checks of the settings: what is missing, what is unsafe, and what does not fit together."""

import os
import re
from collections.abc import Iterator, Mapping
from functools import partial

from kit.connections import postgres_budget, postgres_remedy, redis_budget, redis_remedy
from kit.doctor._checks import Finding, check, fine, problem, warning
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
