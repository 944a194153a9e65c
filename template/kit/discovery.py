"""Imports the modules of a package, so that a new file needs no registration."""

from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from types import ModuleType


def import_modules(package: str, *, but: Collection[str] = ()) -> list[ModuleType]:
    """Import every module of a package, those of its subfolders too, in alphabetical order.

    Args:
        package: its dotted name; called from the package's own `__init__.py`, `__name__`.
        but: names of modules of the package itself that are left out.
    """
    folder = Path(str(import_module(package).__file__)).parent
    names = []
    for path in sorted(folder.rglob("*.py")):
        inner = path.relative_to(folder).with_suffix("")
        parts = inner.parts[:-1] if inner.name == "__init__" else inner.parts
        if parts and parts[0] not in but and "__pycache__" not in parts:
            names.append(".".join((package, *parts)))
    return [import_module(name) for name in names]
