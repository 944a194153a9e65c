"""Sources of settings, and how a wrong setting is reported.

One setting is in one of three places. The environment wins over `.env`, `.env` wins over the
table `[tool.service]` of `pyproject.toml`, and that table wins over a field's default. The table
is committed, so it holds no secret.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module
from os import PathLike
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Self, Union, get_args, get_origin

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
    """The table `[tool.service]` of `pyproject.toml`, or nothing where there is none.

    Raises:
        StartupError: when `pyproject.toml` is not valid TOML.
    """
    try:
        document = tomllib.loads((BASE_DIR / "pyproject.toml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise StartupError(f"pyproject.toml is not valid TOML: {error}.") from None
    table: Mapping[str, Any] = document.get("tool", {}).get("service", {})
    return table


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
    """Reads a settings class's fields from a table of texts: the environment's, or that of `.env`.

    A list is separated by commas, or written as JSON. A text that is neither reaches the field as
    it is, so that its error is reported like any other.
    """

    def __init__(self, settings_cls: type[BaseSettings], table: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self.env_vars = {key.lower(): value for key, value in table.items()}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """The value of a field that holds more than a text."""
        is_json = isinstance(value, str) and value.lstrip().startswith(("[", "{"))
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


class ServiceTableSource(PydanticBaseSettingsSource):
    """Reads a settings class's fields from `[tool.service]`, where keys are in lower case."""

    def get_field_value(
        self,
        field: FieldInfo,
        field_name: str,
    ) -> tuple[Any, str, bool]:
        """The table's value of a field; a blank string means unset."""
        key = setting_name(self.settings_cls, field_name).lower()
        value = service_table().get(key)
        if _is_sequence(field.annotation):
            value = _split_commas(value)
        return (None if value == "" else value), field_name, False

    def __call__(self) -> dict[str, Any]:
        """All values that the table holds for this settings class.

        Raises:
            StartupError: when the table holds a secret.
        """
        values = {}
        for name, field in self.settings_cls.model_fields.items():
            value, _, _ = self.get_field_value(field, name)
            if value is None:
                continue
            setting = setting_name(self.settings_cls, name)
            if SecretStr in (field.annotation, *get_args(field.annotation)):
                raise StartupError(
                    f"{setting.lower()} is set in [tool.service] of pyproject.toml, which is "
                    f"committed. Remove it there and set {setting} in .env or the environment."
                )
            values[str(field.validation_alias or name)] = value
        return values


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
    if service_table().get(name.lower()) not in (None, ""):
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
