"""Imports the modules of a package, so that a new file needs no registration; names places."""

import inspect
import os
import traceback
from collections.abc import Callable, Collection
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from kit.settings import BASE_DIR, StartupError


def import_modules(package: str, *, but: Collection[str] = ()) -> list[ModuleType]:
    """Import every module of a package, those of its subfolders too, in alphabetical order.

    Args:
        package: its dotted name; called from the package's own `__init__.py`, `__name__`.
        but: names of modules of the package itself that are left out.

    Raises:
        StartupError: when a module fails to import; its message has the file and the line.
    """
    folder = Path(import_module(package).__path__[0])  # a namespace package has no file
    names = []
    for path in sorted(folder.rglob("*.py")):
        inner = path.relative_to(folder).with_suffix("")
        parts = inner.parts[:-1] if inner.name == "__init__" else inner.parts
        if parts and parts[0] not in but and "__pycache__" not in parts:
            names.append(".".join((package, *parts)))
    return [_import(name, folder) for name in names]


def place(path: str | Path, line: int | None) -> str:
    """Format a line of a file as editors and terminals understand it: `kit/queue/_app.py:12`."""
    return f"{os.path.relpath(path, BASE_DIR) if BASE_DIR in Path(path).parents else path}:{line}"


def place_of(definition: type | Callable[..., Any]) -> str:
    """The place at which a class or a function is defined, decorators included."""
    found: Any = inspect.unwrap(definition)
    return place(inspect.getsourcefile(found) or "", inspect.getsourcelines(found)[1])


def last_line_in(folder: Path, error: BaseException) -> str:
    """File and line, inside a folder where possible, that an error came from."""
    if isinstance(error, SyntaxError) and error.filename:
        return place(error.filename, error.lineno)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if folder in Path(frame.filename).parents]
    return place((own or frames)[-1].filename, (own or frames)[-1].lineno)


def _import(name: str, folder: Path) -> ModuleType:
    try:
        return import_module(name)
    except StartupError:
        raise
    except Exception as error:
        where = last_line_in(folder, error)
        raise StartupError(
            f"cannot import {name}: {where}: {type(error).__name__}: {error}"
        ) from error
