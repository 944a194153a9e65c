"""The service's source: its modules, their imports, and the places of definitions."""

import ast
import inspect
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from kit.settings import BASE_DIR

EXTENSIONS = "app.extensions"


class Import(NamedTuple):
    """One module's import of another, at its start or inside of a function."""

    importer: str
    imported: str
    place: str
    is_for_types: bool
    """Whether it is below `if TYPE_CHECKING`, so that it never runs."""


def place(path: str | Path, line: int) -> str:
    """Format a line of a file as editors and terminals understand it: `kit/queue/_app.py:12`."""
    return f"{os.path.relpath(path, BASE_DIR)}:{line}"


def place_of(definition: type | Callable[..., Any]) -> str:
    """The place at which a class or a function is defined, decorators included."""
    found: Any = inspect.unwrap(definition)
    return place(inspect.getsourcefile(found) or "", inspect.getsourcelines(found)[1])


def extension_of(module: str) -> str | None:
    """The extension that a module is part of; None for all other modules, called core here."""
    parts = module.split(".")
    return parts[2] if module.startswith(f"{EXTENSIONS}.") else None


@cache
def modules() -> dict[str, Path]:
    """Every module of `app/` and `kit/` by its name, including those of extensions' tests."""
    # Python 3.11's glob does not follow links, and an extension's folder may be one.
    folders = [BASE_DIR / "app", BASE_DIR / "kit", *(BASE_DIR / "app" / "extensions").glob("*/")]
    found = {}
    for folder in folders:
        for path in folder.rglob("*.py"):
            name = ".".join(path.relative_to(BASE_DIR).with_suffix("").parts)
            if not name.startswith("kit.tests."):
                found[name.removesuffix(".__init__")] = path
    return found


def is_service_code(module: str) -> bool:
    """Whether a module runs in the service, unlike tests and migrations."""
    outside = {"tests", "migrations"} & set(module.split(".")[3:])
    return not outside and not module.startswith(("kit.testing", "kit.architecture"))


@cache
def tree(module: str) -> ast.Module:
    """The parsed source of a module."""
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


@cache
def imports() -> list[Import]:
    """Every import in `app/` and `kit/`, of the service's own modules and of others."""
    return [found for module in modules() for found in _imports_of(module)]


def _imports_of(module: str) -> Iterator[Import]:
    for statement, is_for_types in _statements(tree(module), is_for_types=False):
        if isinstance(statement, ast.Import | ast.ImportFrom):
            where = place(modules()[module], statement.lineno)
            for imported in _imported(statement, module):
                yield Import(module, imported, where, is_for_types)


def _imported(statement: ast.Import | ast.ImportFrom, module: str) -> Iterator[str]:
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
        return
    base = statement.module or ""
    if statement.level:
        is_package = modules()[module].stem == "__init__"
        package = module if is_package else module.rpartition(".")[0]
        above = package.split(".")[: len(package.split(".")) - statement.level + 1]
        base = ".".join([*above, base]).strip(".")
    for alias in statement.names:
        submodule = f"{base}.{alias.name}"
        yield submodule if submodule in modules() or base == EXTENSIONS else base


def _statements(node: ast.AST, *, is_for_types: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        checks = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        yield child, is_for_types
        yield from _statements(child, is_for_types=is_for_types or checks)
