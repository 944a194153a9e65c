"""Which part of the service may import which."""

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

from tests.architecture.source import extension_of, imports, is_service_code, modules


def core_imports_extensions() -> Iterator[str]:
    """Core works without any extension: it loads them by `load_extensions`."""
    for found in imports():
        if extension_of(found.importer) is None and extension_of(found.imported):
            yield f"{found.place} imports {found.imported}: core names no extension"


def extensions_import_each_other() -> Iterator[str]:
    """An extension works without any other, its tests included."""
    for found in imports():
        owner, other = extension_of(found.importer), extension_of(found.imported)
        if owner and other and owner != other:
            yield f"{found.place} imports {found.imported}: publish a message instead"


def service_imports_tests() -> Iterator[str]:
    """The image holds no tests."""
    for found in imports():
        if is_service_code(found.importer) and found.imported.split(".")[0] == "tests":
            yield f"{found.place} imports {found.imported}: tests are no part of the image"


def modules_import_each_other() -> Iterator[str]:
    """No circle, also not by way of an import inside of a function."""
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
        yield f"{first} closes a circle of imports: {' <- '.join(circle)}"
