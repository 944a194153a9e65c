"""The service's source, and rules about which part of it may import which."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import kit
from kit.discovery import place
from kit.settings import BASE_DIR

EXTENSIONS = "app.extensions"


class Import(NamedTuple):
    """One module's import of another, at its start or inside of a function."""

    importer: str
    imported: str
    place: str
    is_for_types: bool
    """Whether it is below `if TYPE_CHECKING`, so that it never runs."""


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
        if isinstance(child, ast.expr):
            continue  # most of a tree, in which nothing is imported
        checks = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        yield child, is_for_types
        yield from _statements(child, is_for_types=is_for_types or checks)


def core_imports_extensions() -> Iterator[str]:
    """Core imports no extension, since it works without any: `load_extensions` loads them."""
    for found in imports():
        if extension_of(found.importer) is None and extension_of(found.imported):
            yield f"{found.place} imports {found.imported}: core names no extension"


def extensions_import_each_other() -> Iterator[str]:
    """An extension imports no other, and neither do its tests."""
    for found in imports():
        owner, other = extension_of(found.importer), extension_of(found.imported)
        if owner and other and owner != other:
            yield f"{found.place} imports {found.imported}: publish a message instead"


def service_imports_tests() -> Iterator[str]:
    """The service imports no tests, since the image has none."""
    for found in imports():
        is_test = f"{found.imported}.".startswith(("tests.", "kit.testing.", "kit.tests."))
        if is_service_code(found.importer) and is_test:
            yield f"{found.place} imports {found.imported}: tests are no part of the image"


def kit_imports_service() -> Iterator[str]:
    """The kit imports nothing of the service: it uses the places that `kit.places` names."""
    for found in imports():
        if _room(found.importer) and f"{found.imported}.".startswith("app."):
            yield f"{found.place} imports {found.imported}: the kit imports nothing of the service"


def private_modules_are_imported() -> Iterator[str]:
    """No one imports a private module of a room: it may change in any release.

    Only `kit.testing` does, to replace objects there.
    """
    for found in imports():
        room, other = _room(found.importer), _room(found.imported)
        if other and room not in (other, "testing") and "._" in found.imported:
            yield f"{found.place} imports {found.imported}: import it from kit.{other}"


def rooms_import_upwards() -> Iterator[str]:
    """A room of the kit imports only from floors below its own; `kit/__init__.py` draws them."""
    floors = kit_floors()
    for found in imports():
        room, other = _room(found.importer), _room(found.imported)
        if room and other and room != other and not floors[other] < floors[room]:
            yield f"{found.place} imports {found.imported}: kit.{other} is not below kit.{room}"


def kit_floors() -> dict[str, int]:
    """The floor of each room of the kit, counted from the ground, as its docstring draws it."""
    lines = [line for line in (kit.__doc__ or "").splitlines() if line.startswith("    ")]
    return {
        room.strip(): floor
        for floor, line in enumerate(reversed(lines))
        for room in line.partition("  # ")[0].split(",")
    }


def _room(module: str) -> str:
    """The room of the kit that a module is in; empty for modules outside of the kit."""
    parts = module.split(".")
    return parts[1] if parts[0] == "kit" and len(parts) > 1 else ""


def modules_import_each_other() -> Iterator[str]:
    """No modules import each other in a cycle, not even inside of functions."""
    graph: dict[str, set[str]] = {module: set() for module in filter(is_service_code, modules())}
    for found in imports():
        if found.imported in graph and found.importer in graph and not found.is_for_types:
            graph[found.importer] |= {found.imported} - {found.importer}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]
        [first, *_] = [
            found.place
            for found in imports()
            if (found.imported, found.importer) == (circle[0], circle[1])
        ]
        yield f"{first} closes a cycle of imports: {' <- '.join(circle)}"
