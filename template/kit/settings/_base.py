"""Sources of settings, how a wrong setting is reported, and the parts of connection URLs.

One setting is in one of three places. The environment wins over `.env`, `.env` wins over the
table `[tool.service]` of `pyproject.toml`, and that table wins over a field's default. The table
is committed, so it holds no secret.

Every part of a URL is percent-encoded on its own, so any password works: `@ : / # ? % +`, spaces
and non-ASCII included (RFC 3986, section 2.1).

Addresses of embedded servers and generated logins are kept in `.data/` on a developer's machine.
`devservices` is imported only when they are needed: the production image has neither that package
nor the servers.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module
from os import PathLike
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, Union, get_args, get_origin
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from dotenv.parser import Binding, parse_stream
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    SecretStr,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

if TYPE_CHECKING:
    from types import ModuleType

    from kit.devservices import Addresses, Credentials


BASE_DIR = Path(__file__).resolve().parents[2]
"""The project's root: `.env` and `pyproject.toml` are found here, whatever the current folder."""


def dotenv_file() -> Path:
    """The file `.env`, or the one that `make doctor` was asked to read in its place."""
    return BASE_DIR / os.environ.get("DOTENV_FILE", ".env")


class StartupError(SystemExit):
    """An error that the operator has to fix before the service can start.

    The message says what is wrong, where it is set and what to do. Being a `SystemExit`, it ends
    uvicorn, celery, alembic and `python -m` with that message and status 1, without a stack trace.
    """

    def __init__(self, *messages: str) -> None:
        """Print each message on one or more lines of its own."""
        message = "\n       ".join(messages)
        super().__init__(f"error: {message}")
        self.message = message

    def __str__(self) -> str:
        return self.message


def _split_commas(value: Any) -> Any:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


CommaSeparated = Annotated[list[str], BeforeValidator(_split_commas)]


def _in_project(value: Path) -> Path:
    path = BASE_DIR / value
    if not path.is_file():
        raise ValueError(f"there is no file {path}, expected a certificate in PEM form")
    return path


CertificateFile = Annotated[Path, AfterValidator(_in_project)]
"""A file that has to be there; a relative path is one below the project's root."""


@cache
def service_table() -> Mapping[str, Any]:
    """The table `[tool.service]` of `pyproject.toml`; a blank value counts as unset.

    Raises:
        StartupError: when `pyproject.toml` is not valid TOML.
    """
    try:
        document = tomllib.loads((BASE_DIR / "pyproject.toml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise StartupError(f"pyproject.toml is not valid TOML: {error}.") from None
    table = document.get("tool", {}).get("service", {})
    return {key.lower(): value for key, value in table.items() if value != ""}


@cache
def dotenv_table() -> Mapping[str, str]:
    """The values that `.env` sets, by upper-case name; a blank value counts as unset.

    Raises:
        StartupError: naming a line that cannot be read.
    """
    return _dotenv_values(dotenv_file())


def _dotenv_values(path: str | PathLike[str]) -> Mapping[str, str]:
    # Not `dotenv_values`, which replaces `${NAME}` in single quotes too, and skips a broken line.
    lines = _dotenv_lines(path)
    return {line.key.upper(): line.value for line in lines if line.key and line.value}


def _dotenv_lines(path: str | PathLike[str]) -> list[Binding]:
    if not Path(path).is_file():
        return []
    with Path(path).open(encoding="utf-8-sig") as file:
        lines = list(parse_stream(file))
    if broken := [str(line.original.line) for line in lines if line.error]:
        raise StartupError(
            f"line {', '.join(broken)} of {path} cannot be read, expected NAME='value': write a "
            "single quote within the value as \\'."
        )
    return lines


def values_with_open_dollar() -> list[str]:
    """Names of the values in `.env` in which Docker Compose and uv, unlike us, replace a `$`."""
    return [
        line.key
        for line in _dotenv_lines(dotenv_file())
        if line.key and "$" in (line.value or "")
        if not line.original.string.partition("=")[2].lstrip().startswith("'")
    ]


_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://.+:\d+")


def environment_table() -> Mapping[str, str]:
    """The values that the environment sets, by upper-case name; a blank value counts as unset.

    Kubernetes describes each Service of the namespace in every container: one called `api` sets
    `API_PORT=tcp://10.0.0.11:80`, which is no setting of ours. Source:
    https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
    """
    return {
        key.upper(): value
        for key, value in os.environ.items()
        if value and not (key.endswith("_PORT") and _KUBERNETES_PORT.fullmatch(value))
    }


class TextSource(EnvSettingsSource):
    """Reads a settings class's fields from a table: the environment's, or that of `.env`.

    A list is separated by commas, or written as JSON. A text that is neither reaches the field as
    it is, so that its error is reported like any other.
    """

    def __init__(self, settings_cls: type[BaseSettings], table: Mapping[str, Any]) -> None:
        super().__init__(settings_cls)
        self.env_vars = {key.lower(): value for key, value in table.items()}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """The value of a field that holds more than a text."""
        if not isinstance(value, str):
            return value
        is_json = value.lstrip().startswith(("[", "{"))
        if not is_json and _is_sequence(getattr(field, "annotation", None)):
            return _split_commas(value)
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


def _is_sequence(annotation: Any) -> bool:
    """Whether it is a list, set or tuple of any kind, or None beside one."""
    if get_origin(annotation) in (Union, UnionType):
        return any(map(_is_sequence, get_args(annotation)))
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, list | set | frozenset | tuple)


class ServiceTableSource(TextSource):
    """Reads them from `[tool.service]`, whose values need not be texts.

    Raises:
        StartupError: when the table holds a secret.
    """

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls, service_table())

    def prepare_field_value(
        self, field_name: str, field: FieldInfo, value: Any, value_is_complex: bool
    ) -> Any:
        """The table's value of a field."""
        prepared = super().prepare_field_value(field_name, field, value, value_is_complex)
        name = setting_name(self.settings_cls, field_name)
        for secret in _secrets_set(name, field.annotation, prepared):
            raise StartupError(
                f"{secret.lower()} is set in [tool.service] of pyproject.toml, which is committed. "
                f"Remove it there and set {secret} in .env or the environment."
            )
        return prepared


def _secrets_set(name: str, annotation: Any, value: Any) -> Iterator[str]:
    """Names of the secrets that a value sets, those in a model included."""
    kinds = (annotation, *get_args(annotation))
    if value is not None and SecretStr in kinds:
        yield name
    given = {key.lower(): each for key, each in value.items()} if isinstance(value, dict) else {}
    for kind in kinds:
        if given and isinstance(kind, type) and issubclass(kind, BaseModel):
            for inner, field in kind.model_fields.items():
                each = given.get(inner.lower())
                yield from _secrets_set(f"{name}__{inner.upper()}", field.annotation, each)


known_secrets: set[str] = set()
"""Each secret that a settings class of this process has read, for logs to mask."""


def _secrets_in(value: Any) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        yield from _secrets_in([*vars(value).values()])
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from _secrets_in(each)


class ServiceSettings(BaseSettings):
    """Base of every settings class; an extension derives its own, with an `env_prefix`."""

    model_config = SettingsConfigDict(
        env_file=dotenv_file(),
        env_nested_delimiter="__",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    foreign_prefixes: ClassVar[tuple[str, ...]] = ()
    """Beginnings of further names in `.env`, which a library reads."""

    def model_post_init(self, context: Any, /) -> None:
        """Note the secrets."""
        super().model_post_init(context)
        known_secrets.update(_secrets_in(self))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (the base class's signature)
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The order of precedence: arguments, environment, `.env`, `[tool.service]`."""
        files = getattr(dotenv_settings, "env_file", None) or ()
        last_first = [files] if isinstance(files, str | PathLike) else reversed(files)
        return (
            init_settings,
            TextSource(settings_cls, environment_table()),
            *(TextSource(settings_cls, _dotenv_values(file)) for file in last_first),
            ServiceTableSource(settings_cls),
            file_secret_settings,
        )

    @classmethod
    def load(cls) -> Self:
        """Read the settings from the environment, `.env` and `pyproject.toml`.

        Raises:
            StartupError: naming every setting that is wrong, where it is set and what is expected.
        """
        try:
            return cls()
        except ValidationError as error:
            raise StartupError(*explain(cls, error)) from None


def extension_problems(extensions: Iterable[str]) -> list[str]:
    """Messages for `StartupError` about every wrong setting of these extensions.

    An extension without settings has none. One that fails to import in another way is left to
    `kit.extensions`, which names the file.
    """
    problems = []
    for name in extensions:
        try:
            import_module(f"app.extensions.{name}.settings")
        except StartupError as error:
            problems.append(error.message)
        except Exception:  # noqa: BLE001, S112 (see above)
            continue
    return problems


def setting_name(settings_cls: type[BaseSettings], field_name: str) -> str:
    """The name of a field in the environment and in `.env`."""
    return setting_names(settings_cls, field_name)[0]


def setting_names(settings_cls: type[BaseSettings], field_name: str) -> list[str]:
    """Every name under which a field is read."""
    alias = settings_cls.model_fields[field_name].validation_alias
    prefix = settings_cls.model_config.get("env_prefix") or ""
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias or prefix + field_name]
    names = [each.path[0] if isinstance(each, AliasPath) else each for each in choices]
    return [str(name).upper() for name in names]


def explain(settings_cls: type[BaseSettings], error: ValidationError) -> list[str]:
    known = {
        name: setting_name(settings_cls, field)
        for field in settings_cls.model_fields
        for name in (field.upper(), *setting_names(settings_cls, field))
    }
    lines = []
    for item in error.errors(include_url=False):
        message = item["msg"].removeprefix("Value error, ")
        if not item["loc"]:
            lines.append(message)
            continue
        first, *inner = map(str, item["loc"])
        delimiter = settings_cls.model_config.get("env_nested_delimiter") or "__"
        path = [known.get(first.upper(), first), *inner]
        # The names of an inner value and of those that hold it; the last that is set is the one.
        names = [delimiter.join(path[:length]).upper() for length in range(1, len(path) + 1)]
        is_set = [name for name in names if where_set(name) != NOT_SET]
        name = names[-1] if item["type"] == "missing" else [names[0], *is_set][-1]
        lines.append(f"{name} ({where_set(name)}): {message}.")
    return lines


NOT_SET = "not set"


def raw_value(name: str) -> str | None:
    """The text that a setting is set to, before any class has read it; None where it is not set."""
    table = service_table().get(name.lower())
    return environment_table().get(name) or dotenv_table().get(name) or table


def where_set(name: str) -> str:
    """The source of a setting's value, in words: for messages to the operator."""
    value, in_dotenv = environment_table().get(name), dotenv_table().get(name)
    if in_dotenv and value in (None, "", in_dotenv):  # `load_dotenv` copies .env's to the other
        return f"set in {dotenv_file().name}"
    if value:
        return "set in the environment"
    if name.lower() in service_table():
        return "set in [tool.service] of pyproject.toml"
    return NOT_SET


def unknown_settings() -> list[str]:
    """Messages about keys of `.env` and `[tool.service]` that no settings class knows.

    `.env` is shared by all settings classes, those that derive from pydantic's own included, so
    only their union can show a misspelt key. A key of an extension that is present but not enabled
    is no mistake and is left out.
    """
    known: set[str] = set()
    nested: set[str] = set()
    for cls in _derived_from(BaseSettings):
        names = {name for field in cls.model_fields for name in setting_names(cls, field)}
        known |= names
        if delimiter := cls.model_config.get("env_nested_delimiter"):
            nested |= {f"{name}{delimiter}".upper() for name in names}
        nested |= {*getattr(cls, "foreign_prefixes", ())}
    extensions = BASE_DIR / "app" / "extensions"
    present = {f"{path.name.strip('_').upper()}_" for path in extensions.glob("*/")}
    prefixes = tuple(nested | present)
    places = [(key, dotenv_file().name) for key in dotenv_table()]
    places += [(key.upper(), "[tool.service] of pyproject.toml") for key in service_table()]
    findings = []
    for key, place in places:
        if key in known or key.startswith(prefixes):
            continue
        close = difflib.get_close_matches(key, known, n=1)
        suggestion = f"Did you mean {close[0]}?" if close else "Remove it, or define it in a class."
        findings.append(f"{key} is set in {place}, but no setting has that name. {suggestion}")
    return findings


def _derived_from(base: type[BaseSettings]) -> list[type[BaseSettings]]:
    children = base.__subclasses__()
    return children + [cls for child in children for cls in _derived_from(child)]


POSTGRES_SCHEMES = (
    "postgresql",
    "postgres",
    "postgresql+asyncpg",
    "postgresql+psycopg2",
    "postgresql+psycopg",
)
POSTGRES_EXAMPLE = "postgresql://user:password@host:5432/db"
REDIS_SCHEMES = ("redis", "rediss", "valkey", "valkeys")
REDIS_EXAMPLE = "rediss://default:password@host:6379/0"

POSTGRES_WITHOUT_EFFECT = frozenset(
    {
        "application_name",  # each connection has a name of its own, see `make connections`
        "channel_binding",  # asyncpg has none; sslmode is kept
        "connect_timeout",
        "connection_limit",  # Prisma's name of POSTGRES_POOL_SIZE
        "pool_timeout",
        "supa",  # marks the integration that made the URL
        "uselibpqcompat",  # what sslmode means to node-postgres; it is libpq's meaning here
    }
)
"""Parameters that platforms add for other clients; nothing that was asked for is lost."""

REDIS_WITHOUT_EFFECT = frozenset({"family"})  # ioredis's; both families are tried here

NOT_VERIFIED = "no-verify"
"""node-postgres's name of libpq's `require`: encrypted, the certificate not verified."""

_PLACEHOLDER = re.compile(r":(\[YOUR[-_]PASSWORD\]|<password>|\*+)@")
"""Shown by the dashboards of Supabase, Redis and Neon in the password's place."""


def build_url(
    scheme: str,
    *,
    username: str | None,
    password: str | None,
    host: str,
    port: int,
    path: str,
) -> str:
    """Build a URL, each part percent-encoded; a host that is a path is a Unix socket."""
    login = ""
    if username or password:
        login = quote(username or "", safe="")
        login += f":{quote(password, safe='')}" if password else ""
        login += "@"
    if host.startswith("/"):
        query = urlencode({"host": host, "port": port})
        return f"{scheme}://{login}/{quote(path, safe='')}?{query}"
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{login}{host}:{port}/{quote(path, safe='')}"


def postgres_parts(url: str) -> dict[str, object]:
    """Split a database URL into `POSTGRES_…` settings.

    Raises:
        ValueError: when the URL is of another kind, still holds a placeholder for the password or
            has a parameter that one of the two drivers would ignore.
    """
    split = _split(url, POSTGRES_SCHEMES, POSTGRES_EXAMPLE)
    query = dict(parse_qsl(split.query, keep_blank_values=True))
    sslmode = query.pop("sslmode", query.pop("ssl", None))
    if sslmode in ("allow", "prefer"):
        raise ValueError(
            f"with sslmode={sslmode} a connection can be unencrypted without notice; write "
            "sslmode=require, or sslmode=disable in a trusted network"
        )
    parts: dict[str, object] = {
        "POSTGRES_HOST": split.hostname or query.pop("host", "") or "localhost",
        "POSTGRES_PORT": split.port or query.pop("port", "") or 5432,
        "POSTGRES_DB": unquote(split.path.removeprefix("/")) or "postgres",
        "POSTGRES_USER": unquote(split.username or "postgres"),
        "POSTGRES_PASSWORD": _password(split),
        "POSTGRES_SSLMODE": "require" if sslmode == NOT_VERIFIED else sslmode,
        "POSTGRES_CA_FILE": query.pop("sslrootcert", None),
        # Prisma's sign of a pooler in transaction mode; Supabase gives its URLs with it.
        "POSTGRES_POOLER": {"true": "transaction"}.get(query.pop("pgbouncer", "")),
    }
    if query.get("schema") == "public":  # Prisma's, and the default of PostgreSQL
        del query["schema"]
    _refuse_parameters(
        query.keys() - POSTGRES_WITHOUT_EFFECT,
        "one of the two drivers would ignore them. Remove them from the URL. Those with an effect "
        "are sslmode, sslrootcert, host, port and pgbouncer",
    )
    return {name: value for name, value in parts.items() if value is not None}


def redis_parts(url: str) -> dict[str, object]:
    """Split a Redis URL into `REDIS_…` settings.

    Raises:
        ValueError: when the URL is of another kind, still holds a placeholder for the password or
            has a parameter that cannot be kept.
    """
    split = _split(url, REDIS_SCHEMES, REDIS_EXAMPLE)
    query = dict(parse_qsl(split.query))
    verification = query.pop("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if verification != "required":
        raise ValueError(
            "remove ssl_cert_reqs, which turns the verification of the certificate off. Name the "
            "server's certificate in REDIS_CA_FILE or, where the provider has none to download, "
            "set REDIS_TLS_VERIFY=false"
        )
    database = split.path.removeprefix("/") or query.pop("db", "0")
    if not database.isdecimal():
        raise ValueError(f"the path is not the number of a database, expected {REDIS_EXAMPLE}")
    parts: dict[str, object] = {
        "REDIS_HOST": split.hostname or "localhost",
        "REDIS_PORT": split.port or 6379,
        "REDIS_DB": int(database),
        "REDIS_USERNAME": unquote(split.username) if split.username else None,
        "REDIS_PASSWORD": _password(split),
        "REDIS_TLS": split.scheme in ("rediss", "valkeys"),
        "REDIS_CA_FILE": query.pop("ssl_ca_certs", None),
    }
    _refuse_parameters(
        query.keys() - REDIS_WITHOUT_EFFECT,
        "this service has settings of its own in their place. Remove them from the URL. Those with "
        "an effect are db, ssl_ca_certs and ssl_cert_reqs",
    )
    return {name: value for name, value in parts.items() if value is not None}


def _split(url: str, schemes: tuple[str, ...], example: str) -> SplitResult:
    """Split a URL. No message holds a part of it, since each may be one of the password."""
    if found := _PLACEHOLDER.search(url):
        raise ValueError(f"still holds {found[1]}; replace it with the password")
    encoded = (
        "percent-encode special characters of the password, as %23 for #, %2F for / and %3F for ?, "
        "or set the parts instead"
    )
    try:
        split = urlsplit(url.strip())
        _ = split.port
    except ValueError:
        raise ValueError(f"cannot be read, expected {example}; {encoded}") from None
    if split.scheme not in schemes:
        raise ValueError(f"does not begin with {schemes[0]}://, expected {example}")
    if split.fragment or "@" in split.path + split.query:
        raise ValueError(f"holds a bare #, / or ? before its @; {encoded}")
    return split


def _password(split: SplitResult) -> str | None:
    if split.password is None:
        return None
    return unquote(split.password)


def _refuse_parameters(names: Collection[str], reason: str) -> None:
    if names:
        raise ValueError(f"has parameters that are not kept ({', '.join(sorted(names))}): {reason}")


def local_addresses() -> "Addresses":
    """The addresses of the embedded servers, whether they run or not.

    Raises:
        StartupError: when the addresses cannot be read.
    """
    devservices = devservices_package()
    try:
        addresses: Addresses = devservices.addresses(BASE_DIR)
    except devservices.DevServicesError as error:
        raise StartupError(str(error)) from None
    return addresses


def local_credentials() -> "Credentials":
    """The logins and keys generated for this copy of the service, for the local environment.

    Raises:
        StartupError: when they cannot be read.
    """
    devservices = devservices_package()
    try:
        credentials: Credentials = devservices.local_credentials(BASE_DIR)
    except devservices.DevServicesError as error:
        raise StartupError(str(error)) from None
    return credentials


def local_secret_key() -> str:
    """The key that signs session cookies where `SECRET_KEY` is not set; see `local_credentials`."""
    key = local_credentials().secret_key
    known_secrets.add(key)
    return key


def devservices_package() -> "ModuleType":
    """Import the package `devservices`.

    Raises:
        StartupError: where it is absent; the message says what to configure instead.
    """
    try:
        from kit import devservices  # noqa: PLC0415 (absent in production)
    except ImportError as error:
        raise StartupError(
            "ENVIRONMENT is local and database, Redis or SECRET_KEY are not configured, but the "
            f"embedded servers to use instead are not installed ({error}). In an image, set "
            "ENVIRONMENT=production, DATABASE_URL, REDIS_URL and SECRET_KEY; on Windows, work in "
            "WSL or set DATABASE_URL, REDIS_URL and SECRET_KEY in .env."
        ) from None
    return devservices
