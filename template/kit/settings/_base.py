"""Sources of settings, and how a wrong setting is reported.

One setting is in one of three places. The environment wins over `.env`, `.env` wins over the
table `[tool.service]` of `pyproject.toml`, and that table wins over a field's default. The table
is committed, so it holds no secret.
"""

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Self, get_args

from dotenv import dotenv_values
from pydantic import AfterValidator, BeforeValidator, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

BASE_DIR = Path(__file__).resolve().parents[2]
"""The project's root: `.env` and `pyproject.toml` are found here, whatever the current folder."""


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


CommaSeparated = Annotated[list[str], NoDecode, BeforeValidator(_split_commas)]


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
    """The values that `.env` sets, by upper-case name; a blank value counts as unset."""
    values = dotenv_values(BASE_DIR / ".env", encoding="utf-8")
    return {key.upper(): value for key, value in values.items() if value}


class ServiceTableSource(PydanticBaseSettingsSource):
    """Reads a settings class's fields from `[tool.service]`, where keys are in lower case."""

    def get_field_value(
        self,
        field: FieldInfo,  # noqa: ARG002 (the base class's signature)
        field_name: str,
    ) -> tuple[Any, str, bool]:
        """The table's value of a field; a blank string means unset."""
        key = setting_name(self.settings_cls, field_name).lower()
        value = service_table().get(key)
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


class ServiceSettings(BaseSettings):
    """Base of every settings class; an extension derives its own, with an `env_prefix`."""

    model_config = SettingsConfigDict(
        env_file=BASE_DIR / ".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The order of precedence: arguments, environment, `.env`, `[tool.service]`."""
        return (
            init_settings,
            env_settings,
            dotenv_settings,
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
    field = settings_cls.model_fields[field_name]
    prefix = settings_cls.model_config.get("env_prefix") or ""
    return str(field.validation_alias or f"{prefix}{field_name}").upper()


def explain(settings_cls: type[BaseSettings], error: ValidationError) -> list[str]:
    lines = []
    for item in error.errors(include_url=False):
        message = item["msg"].removeprefix("Value error, ")
        if not item["loc"]:
            lines.append(message)
            continue
        fields = settings_cls.model_fields
        known = {(field.validation_alias or name): name for name, field in fields.items()}
        field_name = str(item["loc"][0])
        name = setting_name(settings_cls, known.get(field_name, field_name))
        lines.append(f"{name} ({where_set(name)}): {message}.")
    return lines


def where_set(name: str) -> str:
    """The source of a setting's value, in words: for messages to the operator."""
    value, in_dotenv = os.environ.get(name), dotenv_table().get(name)
    if in_dotenv and value in (None, "", in_dotenv):  # `load_dotenv` copies .env's to the other
        return "set in .env"
    if value:
        return "set in the environment"
    if service_table().get(name.lower()) not in (None, ""):
        return "set in [tool.service] of pyproject.toml"
    return "not set"


def unknown_settings() -> list[str]:
    """Messages about keys of `.env` and `[tool.service]` that no settings class knows.

    `.env` is shared by all settings classes, so only their union can show a misspelt key. A key
    of an extension that is present but not enabled is no mistake and is left out.
    """
    classes = _all_settings_classes(ServiceSettings)
    known = {setting_name(cls, field) for cls in classes for field in cls.model_fields}
    extensions = BASE_DIR / "app" / "extensions"
    prefixes = tuple(f"{path.name.strip('_').upper()}_" for path in extensions.glob("*/"))
    places = [(key, ".env") for key in dotenv_table()]
    places += [(key.upper(), "[tool.service] of pyproject.toml") for key in service_table()]
    findings = []
    for key, place in places:
        if key in known or key.startswith(prefixes):
            continue
        close = difflib.get_close_matches(key, known, n=1)
        suggestion = f"Did you mean {close[0]}?" if close else "Remove it, or define it in a class."
        findings.append(f"{key} is set in {place}, but no setting has that name. {suggestion}")
    return findings


def _all_settings_classes(base: type[ServiceSettings]) -> list[type[ServiceSettings]]:
    children = base.__subclasses__()
    return children + [cls for child in children for cls in _all_settings_classes(child)]
