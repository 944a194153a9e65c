"""Print the text of `.env.example`: `python -m kit.commands.env_example`.

After adding a setting: `uv run python -m kit.commands.env_example > .env.example`. With the name of
an extension it prints that one's, for the `.env.example` in its folder.
"""

import argparse
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from importlib import import_module
from inspect import getsource
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from kit.commands import run_command
from kit.extensions import extension_dir
from kit.http import extension_title
from kit.places import service
from kit.settings import ServiceSettings, Settings, setting_name

HEADING = """\
# Copy to .env, which git ignores, and fill in what is needed; a blank value counts as unset.
# A value with a $, #, \\, space or quote stands in single quotes: POSTGRES_PASSWORD='a#b $c'
# The environment wins over .env, .env over [tool.service] of pyproject.toml, and that table over
# the defaults shown here. Settings of an extension: app/extensions/<name>/.env.example
"""

YOURS = """
# --- Yours ---
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the service's `.env.example`, or an extension's."""
    parser = argparse.ArgumentParser(prog="python -m kit.commands.env_example", description=__doc__)
    parser.add_argument("extension", nargs="?", help="its name; without it, the service's own")
    extension = parser.parse_args(arguments).extension
    print(env_example_of(extension) if extension else env_example(), end="")


def env_example() -> str:
    """The text of `.env.example`: the kit's settings, and below them the service's own."""
    cls = service.module("core.config").Settings
    kit = Settings.model_fields.keys()
    own = [name for name in cls.model_fields if name not in kit]
    return "".join([HEADING, *_described(cls, kit), YOURS, *_described(cls, own)])


def env_example_of(extension: str) -> str:
    """The text of an extension's `.env.example`; empty where it has no settings."""
    if not any(extension_dir(extension).glob("settings*")):
        return ""
    module = import_module(f"app.extensions.{extension}.settings")
    lines = [
        line
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, ServiceSettings)
        if found.__module__ == module.__name__
        for line in _described(found, found.model_fields)
    ]
    return "".join([f"# --- {extension_title(extension)} ---\n", *lines])


def _described(cls: type[ServiceSettings], names: Iterable[str]) -> Iterator[str]:
    groups = _groups(cls)
    for name in names:
        field = cls.model_fields[name]
        if name in groups:
            yield f"\n# --- {groups[name]} ---\n"
        default = field.get_default(call_default_factory=True)
        yield from _entries(setting_name(cls, name), field, default)


def _entries(name: str, field: FieldInfo, default: Any) -> Iterator[str]:
    """The lines of a setting; those of each field of a nested model, as `SMTP__HOST`."""
    kinds = (field.annotation, *get_args(field.annotation))
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for inner, each in kind.model_fields.items():
                known = getattr(default, inner, each.get_default(call_default_factory=True))
                yield from _entries(f"{name}__{inner.upper()}", each, known)
            return
    # Secrets have no default to show, so their lines are not commented out.
    is_secret = SecretStr in kinds
    explanation = f"# {field.description}\n" if field.description else ""
    line = f"{name}=" if is_secret else f"#{name}={_shown(default)}"
    yield f"\n{explanation}{line}\n"


def _groups(cls: type[ServiceSettings]) -> dict[str, str]:
    """Headings of groups, by their first field: the comments above them in the class's source."""
    pattern = r"^    # (\w[\w ]*)\n    (\w+):"
    own = [each for each in reversed(cls.__mro__) if issubclass(each, ServiceSettings)]
    source = "".join(map(getsource, own))
    return {field: title for title, field in re.findall(pattern, source, re.MULTILINE)}


def _shown(default: Any) -> str:
    if default in (None, PydanticUndefined):
        return ""
    if isinstance(default, bool | dict):
        return json.dumps(default)
    if isinstance(default, list | tuple | set | frozenset):
        shown = [_shown(each) for each in default]
        return ",".join(shown if isinstance(default, list | tuple) else sorted(shown))
    return str(default.value if isinstance(default, Enum) else default)


if __name__ == "__main__":
    run_command(main)
