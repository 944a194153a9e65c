"""Rules about imports: which part of the service may import which."""

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import kit
from kit.architecture._source import extension_of, imports, is_service_code, modules


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
