"""The kit's settings, and the combinations with which it refuses to start.

Each field's description is the line that `.env.example` shows.
"""

import ipaddress
import re
import ssl
import sys
from contextlib import suppress
from functools import cache, cached_property
from typing import Annotated, Any, ClassVar, Literal, Self
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from kit.settings._base import (
    BASE_DIR,
    CertificateFile,
    CommaSeparated,
    ServiceSettings,
    StartupError,
    build_url,
    dotenv_table,
    environment_table,
    explain,
    extension_problems,
    local_addresses,
    local_secret_key,
    postgres_parts,
    redis_parts,
    service_table,
    setting_name,
    setting_names,
)

MINIMUM_SECRET_LENGTH = 32
"""Characters; `python -c "import secrets; print(secrets.token_urlsafe(32))"` prints 43."""

SHORTEST_PASSWORD = 12
"""Characters; servers on the internet are tried with every shorter word that people choose."""
MOST_LOGIN_ATTEMPTS = 100
LONGEST_SESSION = 30 * 24 * 3600

REDIS_WITHOUT_TLS = "redis-without-tls"
LOCAL_ON_NETWORK = "local-on-network"
LOCAL_WITH_REMOTE_SERVERS = "local-with-remote-servers"
LOCAL_NAMES = (LOCAL_ON_NETWORK, LOCAL_WITH_REMOTE_SERVERS)
"""What `ALLOW_UNSAFE` allows in local."""

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
SUPABASE_POOLER_SUFFIX = ".pooler.supabase.com"
SUPABASE_TRANSACTION_PORT = 6543
"""Supabase's pooler: 5432 is session mode, 6543 transaction mode.

Source: https://supabase.com/docs/guides/database/connecting-to-postgres
"""

NEON_POOLED_HOST = re.compile(r"[^.]+-pooler\..+\.neon\.tech")
"""Neon's pooler is in transaction mode. Source: https://neon.com/docs/connect/connection-pooling"""

SUPABASE_PROJECT_HOST = re.compile(r"db\.[a-z0-9]+\.supabase\.co")
"""The database itself, or at the transaction port the project's dedicated pooler. Source:
https://supabase.com/docs/guides/database/connecting-to-postgres#dedicated-pooler
"""

# No inline script and nothing from elsewhere. SQLAdmin's widgets and Scalar set styles inline.
DEFAULT_CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; font-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)

_HOST_NAME = re.compile(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|[0-9a-f:]+", re.IGNORECASE)

Environment = Literal["local", "staging", "production"]
PoolerMode = Literal["none", "session", "transaction"]
SslMode = Literal["disable", "require", "verify-ca", "verify-full"]


def _root_path(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._~/-]*", value):
        raise ValueError("expected a path of letters, digits and . _ ~ - as /shop")
    return f"/{value.strip('/')}".removesuffix("/")


RootPath = Annotated[str, AfterValidator(_root_path)]

HSTS = f"max-age={365 * 24 * 3600}"
"""Browsers ignore it where they came without TLS. Source: RFC 6797, section 8.1"""

_time_zones = cache(available_timezones)  # which reads the whole time zone database


def is_remote(host: str | None) -> bool:
    """Whether a host is another machine, or an address at which others reach this one."""
    if not host or host == "localhost" or host.startswith("/"):
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def is_guessable(secret: str) -> bool:
    """Whether a password is short, or repeats few characters."""
    return len(secret) < SHORTEST_PASSWORD or _repeats(secret)


def _repeats(secret: str) -> bool:
    """Whether a text has few different characters, or is one text several times."""
    return len(set(secret)) < 6 or secret in (secret + secret)[1:-1]  # noqa: PLR2004


class Settings(ServiceSettings):
    """The kit's settings; the service's own class adds its fields."""

    # Service
    PROJECT_NAME: str = Field("Service", description="Name shown in pages, docs and logs.")
    PROJECT_DESCRIPTION: str = Field("", description="One line under the name.")
    ENVIRONMENT: Environment = Field(
        # An image has no embedded servers: there, unset or blank means production.
        "local" if (BASE_DIR / "kit" / "devservices").is_dir() else "production",
        description="local, staging or production; outside local, secrets are required.",
    )
    ALLOW_UNSAFE: CommaSeparated = Field(
        [], description="Unsafe settings that are meant, by the names in their refusals."
    )
    LOG_LEVEL: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severe log line that is written."
    )
    ENABLED_EXTENSIONS: CommaSeparated = Field(
        [], description="Extensions that are on, separated by commas: folders of app/extensions."
    )
    SECRET_KEY: SecretStr | None = Field(
        None,
        description="Signs the admin's session cookie: 32 characters or more; generated in local.",
    )

    # API
    API_HOST: str = Field(
        "127.0.0.1",
        description="Address that the API listens on; with PORT and outside local 0.0.0.0.",
    )
    API_PORT: int = Field(8000, ge=1, le=65535, description="Port that the API listens on.")
    platform_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        validation_alias="PORT",
        description="Set by hosting platforms; used where API_PORT is not set beside it.",
    )
    API_ROOT_PATH: RootPath = Field(
        "", description="Path below which a proxy serves the API, as /shop, and which it removes."
    )
    ALLOWED_HOSTS: CommaSeparated = Field(
        [],
        description="Names by which the API is reached, as api.example.com or *.example.com.",
    )
    API_CONTENT_SECURITY_POLICY: str = Field(
        DEFAULT_CONTENT_SECURITY_POLICY,
        description="What pages may load, and from where; an answer with a policy keeps its own.",
    )
    FORWARDED_ALLOW_IPS: CommaSeparated = Field(
        ["127.0.0.1"],
        description="Proxies whose X-Forwarded headers are believed: addresses or networks.",
    )
    API_WORKERS: int = Field(1, ge=1, description="Processes that serve the API on this machine.")
    API_INSTANCES: int = Field(
        1, ge=1, description="Machines or containers that serve the API, API_WORKERS on each."
    )
    CORS_ORIGINS: CommaSeparated = Field(
        [],
        description="Origins that browsers may call from, separated by commas; local adds its own.",
    )
    API_DOCS: bool | None = Field(
        None,
        description="Whether /scalar and /openapi.json are shown; unset, not in production.",
    )
    API_MAX_BODY_SIZE: int = Field(
        1_048_576, ge=0, description="Most bytes of a request's body, where no route says its own."
    )
    API_RECEIVE_TIMEOUT: float = Field(
        20, gt=0, description="Seconds in which a request has to arrive, and one more per 4 kB."
    )
    API_DRAIN_SECONDS: float = Field(
        0, ge=0, description="Seconds after SIGTERM that the API still serves, and is not ready."
    )
    API_RATE_LIMIT: int | None = Field(
        None,
        ge=0,
        description="Most requests of a caller to /api a minute; 0 for any; unset 3000, local any.",
    )

    # Database
    database_url_override: SecretStr | None = Field(
        None,
        validation_alias="DATABASE_URL",
        description="Whole connection string; used instead of the POSTGRES_ parts when set.",
    )
    POSTGRES_HOST: str | None = Field(None, description="Host of PostgreSQL or of its pooler.")
    POSTGRES_PORT: int = Field(
        5432, ge=1, le=65535, description="Supabase's pooler: 5432 session, 6543 transaction mode."
    )
    POSTGRES_USER: str = Field(
        "postgres", description="User; behind Supabase's pooler postgres.<project reference>."
    )
    POSTGRES_PASSWORD: SecretStr | None = Field(
        None, description="Password, as it is: it needs no encoding. Single quotes suit any."
    )
    POSTGRES_DB: str = Field(
        "postgres", min_length=1, max_length=63, description="Name of the database."
    )
    POSTGRES_POOLER: PoolerMode | None = Field(
        None,
        description="none, session or transaction; for Supabase it follows from host and port.",
    )
    POSTGRES_SSLMODE: SslMode | None = Field(
        None,
        description="disable, require, verify-ca or verify-full; a remote host requires TLS.",
    )
    POSTGRES_CA_FILE: CertificateFile | None = Field(
        None, description="Certificate file to verify the server with, for example prod-ca.crt."
    )
    POSTGRES_CONNECTION_LIMIT: int = Field(
        15, ge=1, description="Connections that plan or pooler allow (15 on Supabase's free plan)."
    )
    POSTGRES_POOL_SIZE: int | None = Field(
        None,
        ge=1,
        description="Most connections of one API process for requests; unset, its share of them.",
    )
    POSTGRES_SYNC_POOL_SIZE: int = Field(
        1,
        ge=1,
        description="Most connections of an API process for the admin, of a worker for tasks.",
    )
    POSTGRES_POOL_TIMEOUT: float = Field(
        5, gt=0, description="Seconds to wait for a free connection before answering 503."
    )
    POSTGRES_COMMAND_TIMEOUT: float = Field(
        10, gt=0, description="Seconds that a request waits for a statement's end before 503."
    )
    POSTGRES_LOCK_TIMEOUT: float = Field(
        2, gt=0, description="Seconds that a migration waits for a table in use before a retry."
    )

    # Redis
    redis_url_override: SecretStr | None = Field(
        None,
        validation_alias="REDIS_URL",
        description="Whole URL, redis:// or rediss://; used instead of the REDIS_ parts when set.",
    )
    REDIS_HOST: str | None = Field(None, description="Host of Redis's public endpoint.")
    REDIS_PORT: int = Field(6379, ge=1, le=65535, description="Port of Redis's public endpoint.")
    REDIS_DB: int = Field(0, ge=0, description="Number of the database; Redis Cloud has only 0.")
    REDIS_USERNAME: str = Field("default", description="User of Redis.")
    REDIS_PASSWORD: SecretStr | None = Field(None, description="Password of Redis, as it is.")
    REDIS_TLS: bool = Field(False, description="Whether Redis is reached over TLS.")
    REDIS_CA_FILE: CertificateFile | None = Field(
        None, description="Certificate file to verify Redis with; the system's are used otherwise."
    )
    REDIS_TLS_VERIFY: bool = Field(
        True,
        description="Whether the certificate is verified; false for one that no file can verify.",
    )
    REDIS_CONNECTION_LIMIT: int = Field(
        30, ge=1, description="Connections that the plan allows (30 on Redis Cloud's free plan)."
    )
    REDIS_POOL_SIZE: int = Field(
        2, ge=1, description="Most connections of one process for commands."
    )
    REDIS_POOL_TIMEOUT: float = Field(
        5, gt=0, description="Seconds to wait for a free connection before raising a clear error."
    )
    REDIS_KEY_PREFIX: str = Field(
        "", description="Put before every key, where several services share one Redis."
    )

    # Tasks
    CELERY_TASKS_MODULE: str = Field("app.tasks", description="Prefix of the core tasks' names.")
    CELERY_WORKERS: int = Field(
        1, ge=0, description="Workers on all machines together; connections are divided by it."
    )
    CELERY_WORKER_CHILDREN: int = Field(
        0, ge=0, description="Processes that each prefork worker forks; 0 for pool solo or threads."
    )
    CELERY_BEATS: int = Field(
        1, ge=0, description="Beats on all machines together, those on standby included."
    )
    CELERY_TIMEZONE: str = Field("UTC", description="Time zone of the schedules, as Europe/Paris.")
    CELERY_RESULT_EXPIRES: int = Field(
        3600, gt=0, description="Seconds that a task's result is kept; a free plan has 30 MB."
    )
    CELERY_VISIBILITY_TIMEOUT: int = Field(
        3600, gt=0, description="Seconds after which an unfinished task is redelivered."
    )
    CELERY_TASK_MAX_SECONDS: int = Field(
        1800, gt=0, description="Longest a task may take; has to be below the visibility timeout."
    )
    CELERY_MAX_DELIVERIES: int = Field(
        5, gt=0, description="Deliveries of a task that loses its worker each time; then given up."
    )
    CELERY_PAYLOAD_LIMIT: int = Field(
        65536, gt=0, description="Most bytes that a task's arguments or its result may have."
    )

    # Flower
    FLOWER_HOST: str = Field("127.0.0.1", description="Address that Flower listens on.")
    FLOWER_PORT: int = Field(5555, ge=1, le=65535, description="Port of Flower's pages.")
    FLOWER_USERNAME: str = Field("flower", description="User of Flower's pages.")
    FLOWER_PASSWORD: SecretStr | None = Field(
        None, description="Password of Flower's pages; required outside local."
    )

    # Admin
    ADMIN_LOGIN_ATTEMPTS: int = Field(
        5, ge=1, description="Failed logins of one client before it has to wait."
    )
    ADMIN_LOGIN_WINDOW: int = Field(900, gt=0, description="Seconds in which failures count.")
    ADMIN_SESSION_SECONDS: int = Field(
        43200, gt=0, description="Seconds after which an administrator logs in again."
    )
    AUDIT_KEEP_DAYS: int | None = Field(
        None, ge=1, description="Days after which entries of the audit are deleted; empty: never."
    )

    @model_validator(mode="before")
    @classmethod
    def _take_platforms_values(cls, values: dict[str, Any]) -> dict[str, Any]:
        if port := values.get("PORT"):
            if "API_PORT" not in environment_table().keys() | dotenv_table().keys():
                values = values | {"API_PORT": port}
            if values.get("ENVIRONMENT", cls.model_fields["ENVIRONMENT"].default) != "local":
                values = {"API_HOST": "0.0.0.0"} | values  # noqa: S104 (its router is outside)
        # A URL that cannot be taken apart is reported by its field's validator.
        with suppress(ValueError):
            if url := values.get("DATABASE_URL"):
                parts = postgres_parts(_revealed(url))
                # The parts that the table sets belong to another database than the URL's.
                values = {k: v for k, v in values.items() if k not in _DATABASE_PARTS}
                values = {"POSTGRES_POOLER": parts.pop("POSTGRES_POOLER", None)} | values | parts
        with suppress(ValueError):
            if url := values.get("REDIS_URL"):
                parts = redis_parts(_revealed(url))
                values = {k: v for k, v in values.items() if k not in _REDIS_PARTS} | parts
        return values

    @field_validator("database_url_override", "redis_url_override")
    @classmethod
    def _can_be_taken_apart(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None:
            take_apart = redis_parts if info.field_name == "redis_url_override" else postgres_parts
            take_apart(value.get_secret_value())
        return value

    @field_validator("FORWARDED_ALLOW_IPS")
    @classmethod
    def _are_networks(cls, values: list[str]) -> list[str]:
        for value in values:
            if value != "*":
                try:
                    ipaddress.ip_network(value)
                except ValueError as error:
                    raise ValueError(f"{error}, expected as 10.0.0.5 or 10.0.0.0/8") from None
        return values

    @field_validator("ALLOWED_HOSTS")
    @classmethod
    def _are_host_names(cls, values: list[str]) -> list[str]:
        for value in values:
            if not _HOST_NAME.fullmatch(value):
                raise ValueError(
                    f"{value!r} is no name of a host, expected api.example.com or *.example.com, "
                    "without https:// and port"
                )
        return [value.lower().rstrip(".") for value in values]

    @field_validator("CELERY_TIMEZONE")
    @classmethod
    def _known_time_zone(cls, value: str) -> str:
        if value not in _time_zones():
            raise ValueError(f"{value!r} is no time zone, expected an IANA name as Europe/Paris")
        return value

    is_judged: ClassVar[bool] = True
    collected: ClassVar[list[str] | None] = None
    """A list takes the problems that `load` finds, which then does not raise: for `make doctor`."""

    @classmethod
    def load(cls) -> Self:
        """Read the settings from the environment, `.env` and `pyproject.toml`.

        Raises:
            StartupError: naming every setting that is wrong, those of enabled extensions too.
        """
        try:
            return cls()
        except ValidationError as error:
            problems = explain(cls, error)
            # The rest is judged with the defaults in place of what cannot be read.
            wrong = {str(item["loc"][0]).upper() for item in error.errors() if item["loc"]}
            unread = {
                name: None if field.is_required() else field.get_default(call_default_factory=True)
                for name, field in cls.model_fields.items()
                if wrong & {name.upper(), *setting_names(cls, name)}
            }
            with suppress(Exception):  # a validator that cannot take a default
                fields: Any = {name: (Any, value) for name, value in unread.items()}
                rest = create_model(cls.__name__, __base__=cls, __module__=cls.__module__, **fields)
                rest.is_judged = False
                found = rest(**unread)
                # Extensions' settings use these when they validate their own.
                vars(sys.modules[cls.__module__]).setdefault("settings", found)
                if unread:
                    named = {setting_name(cls, name) for name in unread}
                    problems += [
                        each for each in found.problems() if not any(name in each for name in named)
                    ]
                problems += extension_problems(found.ENABLED_EXTENSIONS)
                if cls.collected is not None:
                    cls.collected += problems
                    return found
            raise StartupError(*problems) from None

    @model_validator(mode="after")
    def _refuse_what_cannot_work(self) -> "Settings":
        if self.is_judged and (problems := self.problems()):
            raise ValueError("\n       ".join(problems))
        return self

    def problems(self) -> list[str]:
        """What cannot work: contradictions and, outside local, what is missing."""
        if self.is_local:
            return self._contradictions()
        return self._contradictions() + self._missing_outside_local() + self._refused()

    unsafe_of_extensions: ClassVar[dict[str, str]] = {}
    """As `unsafe`, for the settings of extensions that are imported."""

    def refuse_unsafe(self, name: str, message: str) -> None:
        """Refuse a setting of an extension outside local, unless `ALLOW_UNSAFE` has this name.

        Args:
            name: begins with the extension's name, as `webhooks-private-targets`.
            message: the remedy, a colon, and what is unsafe.

        Raises:
            ValueError: for a validator of the extension's settings to pass on.
        """
        self.unsafe_of_extensions[name] = message
        if refused := self._refused({name: message}):
            raise ValueError(*refused)

    def _refused(self, found: dict[str, str] | None = None) -> list[str]:
        found = self.unsafe if found is None else found
        return [
            f"{message} Where that is meant, add {name} to ALLOW_UNSAFE."
            for name, message in found.items()
            if name not in self.ALLOW_UNSAFE and (not self.is_local or name in LOCAL_NAMES)
        ]

    @property
    def unsafe(self) -> dict[str, str]:
        """The kit's settings that open the service to strangers, by their names in `ALLOW_UNSAFE`.

        Each message has the remedy, a colon, and what is unsafe.
        """
        origins = [each for each in self.CORS_ORIGINS if "*" in each or each == "null"]
        proxies = [each for each in self.FORWARDED_ALLOW_IPS if each == "*" or each.endswith("/0")]
        weak = [
            name
            for name, is_weak in (("SECRET_KEY", _repeats), ("FLOWER_PASSWORD", is_guessable))
            if (value := getattr(self, name)) and is_weak(value.get_secret_value())
        ]
        redis_is_remote = is_remote(self.REDIS_HOST) and not self.uses_local_redis
        rows = {
            REDIS_WITHOUT_TLS: redis_is_remote
            and not self.REDIS_TLS
            and "Set REDIS_TLS=true, or rediss:// in REDIS_URL: without it, password and tasks "
            "cross the network readable by all. Redis Cloud's free plan offers no TLS.",
            "redis-without-password": redis_is_remote
            and not self.REDIS_PASSWORD
            and "Set REDIS_PASSWORD: whoever reaches Redis can have tasks run.",
            "database-without-tls": is_remote(self.POSTGRES_HOST)
            and self.sslmode == "disable"
            and "Remove sslmode=disable or POSTGRES_SSLMODE: password and data cross the network "
            "readable by all.",
            "weak-secrets": weak
            and f"Set {' and '.join(weak)} to a random text: it can be guessed. "
            '`python3 -c "import secrets; print(secrets.token_urlsafe(32))"` prints one.',
            "any-cors-origin": origins
            and f"List the origins that call the API in CORS_ORIGINS, as https://app.example.com, "
            f"instead of {', '.join(origins)}: with it a page of any website may.",
            "any-proxy": proxies
            and f"Name the proxy's network in FORWARDED_ALLOW_IPS, as 10.0.0.0/8, instead of "
            f"{', '.join(proxies)}: with it callers make up the address that limits count.",
            "weak-login-throttle": self.ADMIN_LOGIN_ATTEMPTS * 900
            > MOST_LOGIN_ATTEMPTS * self.ADMIN_LOGIN_WINDOW
            and f"Lower ADMIN_LOGIN_ATTEMPTS or raise ADMIN_LOGIN_WINDOW: more than "
            f"{MOST_LOGIN_ATTEMPTS} guesses in 15 minutes find weak passwords.",
            "long-admin-sessions": self.ADMIN_SESSION_SECONDS > LONGEST_SESSION
            and f"Lower ADMIN_SESSION_SECONDS to {LONGEST_SESSION} (30 days) or less: a stolen "
            "cookie works that long.",
        }
        return {name: message for name, message in rows.items() if message}

    @property
    def remote_servers(self) -> list[str]:
        """The servers that are used and not on this machine: `PostgreSQL`, `Redis`."""
        uses = {
            "PostgreSQL": is_remote(self.POSTGRES_HOST) and not self.uses_local_postgres,
            "Redis": is_remote(self.REDIS_HOST) and not self.uses_local_redis,
        }
        return [name for name, is_used in uses.items() if is_used]

    def refuse_open_local(self, *, is_development: bool = False) -> None:
        """Check that an API that asks for no token serves this machine and its data alone.

        Args:
            is_development: whether this is `make dev`, which is meant for another database too.

        Raises:
            StartupError: when `ENVIRONMENT` was perhaps forgotten.
        """
        if not self.is_local:
            return
        remote = [] if is_development else self.remote_servers
        rows = {
            LOCAL_ON_NETWORK: is_remote(self.API_HOST)
            and f"Set ENVIRONMENT=production: in local, which is the default, the API asks for no "
            f"token, and API_HOST is {self.API_HOST}, which other machines reach.",
            LOCAL_WITH_REMOTE_SERVERS: remote
            and f"Set ENVIRONMENT=production, or use `make dev`: in local, which is the default, "
            f"the API asks for no token, and {' and '.join(remote)} is on another machine.",
        }
        if refused := self._refused(
            {name: str(message) for name, message in rows.items() if message}
        ):
            raise StartupError(*refused)

    def _contradictions(self) -> list[str]:
        problems = []
        if self.CELERY_TASK_MAX_SECONDS >= self.CELERY_VISIBILITY_TIMEOUT:
            problems.append(
                f"CELERY_TASK_MAX_SECONDS ({self.CELERY_TASK_MAX_SECONDS}) has to be below "
                f"CELERY_VISIBILITY_TIMEOUT ({self.CELERY_VISIBILITY_TIMEOUT}): a task that takes "
                "longer would be redelivered to a second worker and run twice."
            )
        if self.POSTGRES_PASSWORD and not self.POSTGRES_HOST:
            problems.append("POSTGRES_PASSWORD is set but POSTGRES_HOST is not; set both.")
        if self.REDIS_PASSWORD and not self.REDIS_HOST:
            problems.append("REDIS_PASSWORD is set but REDIS_HOST is not; set both.")
        if self.REDIS_CA_FILE and not self.REDIS_TLS_VERIFY:
            problems.append(
                "REDIS_CA_FILE is set but REDIS_TLS_VERIFY is false, so the file is not used; "
                "remove REDIS_TLS_VERIFY."
            )
        if self.POSTGRES_SSLMODE in ("verify-ca", "verify-full") and not self.POSTGRES_CA_FILE:
            problems.append(
                f"POSTGRES_SSLMODE is {self.POSTGRES_SSLMODE} but POSTGRES_CA_FILE is not set; "
                "download the server's certificate and name its file there."
            )
        return problems

    def _missing_outside_local(self) -> list[str]:
        where = f"and ENVIRONMENT is {self.ENVIRONMENT}"
        problems = []
        if not self.SECRET_KEY:
            problems.append(
                f"SECRET_KEY is not set {where}: set it in the environment to a random text, as "
                '`python3 -c "import secrets; print(secrets.token_urlsafe(32))"` prints one.'
            )
        elif len(self.SECRET_KEY.get_secret_value()) < MINIMUM_SECRET_LENGTH:
            problems.append(
                f"SECRET_KEY has fewer than {MINIMUM_SECRET_LENGTH} characters {where}: "
                "set a longer random text."
            )
        if not self.POSTGRES_HOST:
            problems.append(
                f"no database is configured {where}: set DATABASE_URL, or POSTGRES_HOST, "
                "POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB."
            )
        elif not self.POSTGRES_PASSWORD:
            problems.append(f"POSTGRES_PASSWORD is not set {where}: set it in the environment.")
        if not self.REDIS_HOST:
            problems.append(
                f"no Redis is configured {where}: set REDIS_URL, or REDIS_HOST, REDIS_PORT and "
                "REDIS_PASSWORD."
            )
        if not self.CORS_ORIGINS:
            problems.append(
                f"CORS_ORIGINS lists no origins {where}: list them, separated by commas, as "
                "https://app.example.com, or set it to none when no browser calls the API."
            )
        return problems

    @property
    def is_local(self) -> bool:
        """Whether this is a developer's machine or a test run."""
        return self.ENVIRONMENT == "local"

    @property
    def allowed_origins(self) -> list[str]:
        """Origins for the CORS middleware: those listed; `none` allows none."""
        return [] if self.CORS_ORIGINS == ["none"] else self.CORS_ORIGINS

    @property
    def security_headers(self) -> dict[str, str]:
        """Headers of every answer that has none of their own, HSTS outside local among them."""
        headers = {
            "Content-Security-Policy": self.API_CONTENT_SECURITY_POLICY,
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
        }
        return headers if self.is_local else headers | {"Strict-Transport-Security": HSTS}

    @property
    def shows_api_docs(self) -> bool:
        """Whether `/scalar` and `/openapi.json` are served.

        Not in production, unless `API_DOCS` is true: a service's routes stay private until its
        owner publishes them.
        """
        return self.ENVIRONMENT != "production" if self.API_DOCS is None else self.API_DOCS

    @property
    def rate_limit(self) -> int:
        """Most requests of one caller in a minute; 0 for any, as in local unless set."""
        if self.API_RATE_LIMIT is None:
            return 0 if self.is_local else 3000
        return self.API_RATE_LIMIT

    @property
    def uses_local_postgres(self) -> bool:
        """Whether the embedded PostgreSQL is used, because no usable database is configured.

        `[tool.service]` can name a database but never hold its password, so a fresh checkout of a
        service for Supabase works before `.env` is filled in.
        """
        named_only = self.POSTGRES_HOST in (None, service_table().get("postgres_host"))
        return (
            self.is_local
            and named_only
            and not (self.POSTGRES_PASSWORD or self.database_url_override)
        )

    @property
    def uses_local_redis(self) -> bool:
        """Whether the embedded Redis-compatible server is used; see `uses_local_postgres`."""
        named_only = self.REDIS_HOST in (None, service_table().get("redis_host"))
        return self.is_local and named_only and not (self.REDIS_PASSWORD or self.redis_url_override)

    @cached_property
    def secret_key(self) -> str:
        """The key that signs session cookies; a developer's machine generates and keeps its own."""
        if self.SECRET_KEY:
            return self.SECRET_KEY.get_secret_value()
        return local_secret_key()

    @property
    def DATABASE_URL(self) -> str:  # noqa: N802 (a setting's name)
        """`postgresql+asyncpg://` URL for API requests and migrations."""
        return self._postgres_url("postgresql+asyncpg")

    @property
    def SYNC_DATABASE_URL(self) -> str:  # noqa: N802 (a setting's name)
        """`postgresql+psycopg2://` URL for the admin and for tasks."""
        return self._postgres_url("postgresql+psycopg2")

    def _postgres_url(self, scheme: str) -> str:
        host, port, user, password = self._postgres_address()
        return build_url(
            scheme, username=user, password=password, host=host, port=port, path=self.POSTGRES_DB
        )

    def _postgres_address(self) -> tuple[str, int, str, str | None]:
        if self.uses_local_postgres:
            local = local_addresses().postgres
            return local.host, local.port, local.username, local.password
        password = self.POSTGRES_PASSWORD
        return (
            self.POSTGRES_HOST or "",
            self.POSTGRES_PORT,
            self.POSTGRES_USER,
            password.get_secret_value() if password else None,
        )

    @property
    def REDIS_URL(self) -> str:  # noqa: N802 (a setting's name)
        """`redis://` or `rediss://` URL of broker, results and schedule."""
        if self.uses_local_redis:
            local = local_addresses().redis
            return build_url(
                "redis",
                username=local.username,
                password=local.password,
                host=local.host,
                port=local.port,
                path="0",
            )
        password = self.REDIS_PASSWORD.get_secret_value() if self.REDIS_PASSWORD else None
        return build_url(
            "rediss" if self.REDIS_TLS else "redis",
            username=self.REDIS_USERNAME if password else None,
            password=password,
            host=self.REDIS_HOST or "",
            port=self.REDIS_PORT,
            path=str(self.REDIS_DB),
        )

    @property
    def pooler_mode(self) -> PoolerMode:
        """The mode of the pooler between service and database; `none` without a pooler."""
        if self.uses_local_postgres:
            return "none"
        return self.POSTGRES_POOLER or self.recognised_pooler or "none"

    @property
    def recognised_pooler(self) -> PoolerMode | None:
        """The mode of the pooler that host and port name; None where they name none."""
        host = self.POSTGRES_HOST or ""
        mode: PoolerMode = (
            "transaction" if self.POSTGRES_PORT == SUPABASE_TRANSACTION_PORT else "session"
        )
        if host.endswith(SUPABASE_POOLER_SUFFIX):
            return mode
        if SUPABASE_PROJECT_HOST.fullmatch(host) and mode == "transaction":
            return mode
        return "transaction" if NEON_POOLED_HOST.fullmatch(host) else None

    @property
    def sslmode(self) -> SslMode:
        """TLS towards the database: required for a remote host, verified when a CA file is set."""
        if self.uses_local_postgres:
            return "disable"
        if self.POSTGRES_SSLMODE is not None:
            return self.POSTGRES_SSLMODE
        if self.POSTGRES_CA_FILE is not None:
            return "verify-full"
        host = self.POSTGRES_HOST
        return "disable" if host and not is_remote(host) else "require"

    @property
    def database_connect_args(self) -> dict[str, Any]:
        """The arguments for asyncpg beside the URL."""
        arguments: dict[str, Any] = {
            "ssl": self._ssl_context(),
            "timeout": 10,
            "command_timeout": self.POSTGRES_COMMAND_TIMEOUT,
        }
        if self.pooler_mode != "none":
            # The next query may reach another server connection, which does not know the
            # statements prepared on this one. Unnamed statements, as with caches of size 0, are
            # safe there; a function that names them would not be.
            arguments |= {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
        return arguments

    @property
    def sync_connect_args(self) -> dict[str, Any]:
        """The arguments for psycopg2 beside the URL."""
        arguments: dict[str, Any] = {"sslmode": self.sslmode, "connect_timeout": 10}
        if self.POSTGRES_CA_FILE is not None:
            arguments["sslrootcert"] = str(self.POSTGRES_CA_FILE)
        return arguments

    def _ssl_context(self) -> ssl.SSLContext | bool:
        if self.sslmode == "disable":
            return False
        context = ssl.create_default_context(cafile=self.POSTGRES_CA_FILE)
        context.check_hostname = self.sslmode == "verify-full"
        if self.sslmode == "require":
            # As libpq's `require`: encrypted, the certificate not checked. Supabase signs with an
            # authority of its own, which no system trusts until POSTGRES_CA_FILE names it.
            context.verify_mode = ssl.CERT_NONE
        return context


def tls_options(configuration: Settings) -> dict[str, Any]:
    """The TLS options for redis-py, kombu and Celery; empty for `redis://`.

    The server's certificate and name are verified, with `REDIS_CA_FILE` where one is set, unless
    `REDIS_TLS_VERIFY` is false.
    """
    if not configuration.REDIS_URL.startswith("rediss://"):
        return {}
    if not configuration.REDIS_TLS_VERIFY:
        return {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_check_hostname": False}
    file = configuration.REDIS_CA_FILE
    verified = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
    return verified | ({"ssl_ca_certs": str(file)} if file else {})


_DATABASE_PARTS = frozenset(
    {"POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD"}
)
_REDIS_PARTS = frozenset(
    {"REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_TLS"}
)


def _revealed(value: str | SecretStr) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value
