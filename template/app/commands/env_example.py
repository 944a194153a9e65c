"""`python -m app.commands.env_example` prints what `.env.example` should hold.

After adding a setting: `uv run python -m app.commands.env_example > .env.example`.
"""

import re
from collections.abc import Iterator
from importlib import import_module, util
from inspect import getsource
from typing import Any, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from app.core.config import ServiceSettings, Settings
from app.core.openapi_tags import extension_title
from app.core.settings_base import service_table, setting_name

HEADING = """\
# Copy to .env, which git ignores, and fill in what is needed; a blank value counts as unset.
# A value that holds a #, a space or a quote stands in quotes: POSTGRES_PASSWORD='a#b c'
# The environment wins over .env, .env over [tool.service] of pyproject.toml, and that table over
# the defaults shown here.
"""


def env_example() -> str:
    """The text of `.env.example`: each setting of the core and of the chosen extensions."""
    text = HEADING + "".join(_described(Settings))
    for extension, cls in _extension_settings():
        text += f"\n# --- {extension_title(extension)} ---\n" + "".join(_described(cls))
    return text


def _extension_settings() -> Iterator[tuple[str, type[ServiceSettings]]]:
    for extension in sorted(service_table().get("enabled_extensions", [])):
        module = f"app.extensions.{extension}.settings"
        if util.find_spec(module) is None:
            continue
        for found in vars(import_module(module)).values():
            settings_class = isinstance(found, type) and issubclass(found, ServiceSettings)
            if settings_class and found.__module__ == module:
                yield extension, found


def _described(cls: type[ServiceSettings]) -> Iterator[str]:
    groups = _groups(cls)
    for name, field in cls.model_fields.items():
        if name in groups:
            yield f"\n# --- {groups[name]} ---\n"
        yield f"\n# {field.description}\n"
        # Secrets have no default to show, so their lines are ready to be filled in.
        mark = "" if SecretStr in get_args(field.annotation) else "#"
        yield f"{mark}{setting_name(cls, name)}={_shown(field)}\n"


def _groups(cls: type[ServiceSettings]) -> dict[str, str]:
    """The comment above a group of fields in the class's source, by the group's first field."""
    pattern = r"^    # (\w[\w ]*)\n    (\w+):"
    return {field: title for title, field in re.findall(pattern, getsource(cls), re.MULTILINE)}


def _shown(field: FieldInfo) -> str:
    default: Any = field.default
    if default is PydanticUndefined or default is None:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return ",".join(default) if isinstance(default, list) else str(default)


if __name__ == "__main__":
    print(env_example(), end="")
