"""Extensions: which are on, and how their hooks are loaded.

Core never names an extension. A hook is a module of the extension, such as `models` or `api`; the
part of core that owns the hook loads it here and takes what it needs from the module.
"""

import difflib
import importlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from kit.discovery import last_line_in
from kit.settings import BASE_DIR, StartupError, extension_problems, settings, where_set

HOOKS = ("models", "api", "admin", "tasks", "message_handlers", "start_page")
PARTS = (*HOOKS, "settings", "migrations", "templates", "tests")
"""Modules and folders of an extension that have a meaning."""

IDENTIFIER = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
"""What an extension may be called, and a resource and its fields: `loyalty_points`."""

EXTENSIONS_DIR = BASE_DIR / "app" / "extensions"


class ExtensionError(StartupError):
    """An extension that is enabled cannot be loaded; the message names it."""


class LoadedHook(NamedTuple):
    """One extension's module for a hook."""

    extension: str
    module: ModuleType


def present_extensions() -> list[str]:
    """Names of the folders in `app/extensions`, enabled or not, in alphabetical order."""
    return sorted(path.parent.name for path in EXTENSIONS_DIR.glob("*/__init__.py"))


def enabled_extensions() -> list[str]:
    """Names that `ENABLED_EXTENSIONS` lists, each once, in its order.

    Raises:
        ExtensionError: when a name has no folder in `app/extensions`.
    """
    present = present_extensions()
    for name in settings.ENABLED_EXTENSIONS:
        if name not in present:
            close = difflib.get_close_matches(name, present, n=1)
            hint = f"did you mean {close[0]}?" if close else f"present: {', '.join(present)}."
            raise ExtensionError(
                f"ENABLED_EXTENSIONS ({where_set('ENABLED_EXTENSIONS')}) names {name!r}, but "
                f"there is no folder app/extensions/{name}; {hint}"
            )
    return list(dict.fromkeys(settings.ENABLED_EXTENSIONS))


def public_name(extension: str) -> str:
    """The name in an extension's tables, routes, tasks and settings: `example` for `_example`."""
    return extension.strip("_")


def extension_dir(name: str) -> Path:
    """Folder of an extension."""
    return EXTENSIONS_DIR / name


def load_extensions(hook: str) -> list[LoadedHook]:
    """Import one hook of every enabled extension that has it.

    Args:
        hook: one of `HOOKS`.

    Raises:
        ExtensionError: when an enabled extension is missing, its module fails to import, or has a
            name that is almost the hook's.
    """
    if hook not in HOOKS:
        raise ValueError(f"there is no hook {hook!r}, expected one of {', '.join(HOOKS)}")
    if problems := extension_problems(enabled_extensions()):  # of all, not only of the first one
        raise StartupError(*problems)
    loaded = []
    for extension in enabled_extensions():
        name = f"app.extensions.{extension}.{hook}"
        try:
            if importlib.util.find_spec(name) is None:
                _refuse_misspelling(extension, hook)
                continue
            loaded.append(LoadedHook(extension, importlib.import_module(name)))
        except Exception as error:
            place = last_line_in(extension_dir(extension), error)
            raise ExtensionError(
                f"extension {extension!r} is broken: {place}: {type(error).__name__}: {error}. "
                f"Fix it, or remove {extension} from ENABLED_EXTENSIONS "
                f"({where_set('ENABLED_EXTENSIONS')})."
            ) from error
    return loaded


def close_part(path: Path) -> str:
    """The part of an extension that a module or folder was probably meant to be, or nothing."""
    names = [] if path.stem in PARTS else difflib.get_close_matches(path.stem, PARTS, cutoff=0.8)
    return names[0] if names else ""


def _refuse_misspelling(extension: str, hook: str) -> None:
    """Refuse a module whose name is almost the missing hook's: nothing would ever load it."""
    for path in extension_dir(extension).glob("[!_.]*"):
        if close_part(path) == hook and (path.suffix == ".py" or path.is_dir()):
            raise ExtensionError(
                f"extension {extension!r} is broken: app/extensions/{extension}/{path.name} "
                f"is no hook, so nothing loads it. Rename it; did you mean {hook}?"
            )
