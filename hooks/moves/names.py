"""Where names are in the new release: faces of the kit, its private modules, and short files."""

import ast
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from packaging.version import Version

from hooks.moves.trees import Files

TABLES = Path(__file__).parent


class Place(NamedTuple):
    """A name that can be imported."""

    module: str
    name: str
    is_found: bool = True

    @property
    def is_private(self) -> bool:
        """Whether the module is not meant for code outside of its room."""
        return any(part.startswith("_") for part in self.module.split(".") if part != "__main__")


@dataclass(frozen=True)
class Table:
    """The moves of one release, by path as rendered.

    Args:
        version: of the release; the empty one where nothing moves.
        moves: old path to new path, several old ones to one perhaps; the release may lack the new
            one, where it was given up.
        short: old paths at which a short file of the owner's stays.
        testing: helpers of tests that moved into the kit.
        kit_tests: tests of the kit, which are no longer rendered, and where they are.
        folders: old folders that texts name, and what they say instead.
        makes_owned: whether files become the owner's in it, which other releases leave alone.
    """

    version: str = ""
    moves: dict[str, str] = field(default_factory=dict)
    short: frozenset[str] = frozenset()
    testing: dict[str, str] = field(default_factory=dict)
    kit_tests: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    makes_owned: bool = False

    @classmethod
    def load(cls, path: Path) -> "Table":
        """Read a table; its file is named after the release."""
        table = json.loads(path.read_text(encoding="utf-8"))
        return cls(path.stem, **table | {"short": frozenset(table.get("short", ()))})

    @classmethod
    def load_all(cls) -> "list[Table]":
        """Read the tables that lie beside this module, that of the oldest release first."""
        found = [cls.load(path) for path in TABLES.glob("*.json")]
        return sorted(found, key=lambda table: Version(table.version))

    def sources(self, new: str) -> list[str]:
        """What a file was made of: old paths, and the file itself."""
        return [new, *(old for old, target in self.paths.items() if target == new)]

    @cached_property
    def paths(self) -> dict[str, str]:
        """All that moved."""
        return self.moves | self.testing

    @cached_property
    def modules(self) -> dict[str, str]:
        """The same as dotted names; Alembic's folder holds no modules."""
        return {
            dotted(old): dotted(new)
            for old, new in self.paths.items()
            if old.endswith(".py") and not old.startswith("alembic/") and dotted(old) != dotted(new)
        }


def dotted(path: str) -> str:
    """The module that a file is: `kit/errors/__init__.py` is `kit.errors`."""
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def face_of(module: str) -> str:
    """The module that outsiders import instead: of `kit.errors._problems` it is `kit.errors`."""
    parts = module.split(".")
    while len(parts) > 1 and parts[-1].startswith("_"):
        parts.pop()
    return ".".join(parts)


class Names:
    """Answers where a name of the old release is now.

    Args:
        table: the moves.
        new: the new release, rendered in full.
    """

    def __init__(self, table: Table, new: Files) -> None:
        """Read what the new release defines and offers."""
        self.table = table
        self.modules = table.modules
        self.packages = {dotted(old) for old in table.paths if old.endswith("/__init__.py")}
        self._trees = {
            dotted(path): ast.parse(content)
            for path, content in new.items()
            if path.endswith(".py") and (path.startswith("kit/") or path in table.short)
        }
        self.short = {
            dotted(path): offered(self._trees[dotted(path)])
            for path in table.short
            if dotted(path) in self._trees
        }
        self._defined = {name: defined(tree) for name, tree in self._trees.items()}
        self._faces = {
            name: offered(tree, name)
            for name, tree in self._trees.items()
            if name.startswith("kit") and not Place(name, "").is_private
        }
        self._aliases = self._find_aliases()
        self._own: dict[str, set[str]] = {}

    def _find_aliases(self) -> dict[tuple[str, str], Place]:
        """Where a face offers a name of a private module, perhaps as another one."""
        found = {}
        for face in self._faces:
            for node in ast.walk(self._trees[face]):
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    for alias in node.names:
                        place = Place(face, alias.asname or alias.name)
                        if face == face_of(node.module):
                            found[node.module, alias.name] = place
        return found

    def add_own(self, module: str, names: set[str]) -> None:
        """Note names that the owner has added to a module of the old release."""
        self._own[module] = names
        if module not in self.short and module in self.modules:
            self._defined.setdefault(self.modules[module], set()).update(names)

    def is_moved(self, module: str) -> bool:
        """Whether imports of a module of the old release may have to change."""
        return module in self.modules

    def offers(self, module: str, name: str) -> bool:
        """Whether a face of the kit or a short file offers a name."""
        return name in self._faces.get(module, self.short.get(module, set()))

    def place(self, module: str, name: str) -> Place | None:
        """Where owners import a name of a moved module from; `None` where it stays.

        Args:
            module: as it was called in the old release.
            name: that it had.
        """
        if module not in self.modules or name in self.short.get(module, ()):
            return None
        if module in self.short and name in self._own.get(module, ()):
            return None
        target = self.modules[module]
        face = face_of(target)
        if found := self._aliases.get((target, name)):
            return found
        if name in self._faces.get(face, ()):
            return Place(face, name)
        place = self._elsewhere(target, name)
        # What a package does not define is a module in it, of the owner's own.
        return place if place.is_found or module not in self.packages else None

    def _elsewhere(self, target: str, name: str) -> Place:
        """Find a name that left the module in which most of the old one's content is."""
        if name not in self._defined.get(target, ()) and not name.startswith("_"):
            faces = [face for face, names in self._faces.items() if name in names]
            if len(faces) == 1:
                return Place(faces[0], name)
        return self.inner_place(target, name)

    def inner_place(self, target: str, name: str) -> Place:
        """Where modules of the kit import a name from: the module that defines it.

        Args:
            target: the module of the kit that most of the old one's content is in.
            name: that the old one had.
        """
        if name == "settings" and name in self._faces.get("kit.settings", ()):
            return Place("kit.settings", name)  # the service's own, found when first used
        room = [each for each in self._defined if face_of(each) == face_of(target)]
        everywhere = [each for each in self._defined if each.startswith("kit.")]
        for modules in ([target], room, everywhere):
            found = [module for module in modules if name in self._defined.get(module, ())]
            if len(found) == 1:
                return Place(found[0], name)
        return Place(target, name, is_found=False)

    def defining(self, target: str, key: str) -> list[str]:
        """Modules of the kit that define a name, the likeliest first."""
        found = [
            name for name, names in self._defined.items() if key in names and name in self._kit
        ]
        return sorted(
            found, key=lambda name: (name != target, face_of(name) != face_of(target), name)
        )

    @cached_property
    def _kit(self) -> set[str]:
        return {name for name in self._trees if name.split(".")[0] == "kit"}


def defined(tree: ast.Module) -> set[str]:
    """Names that a module defines itself, at its top."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        else:
            found |= {
                each.id
                for each in ast.walk(node)
                if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
            }
    return found


def offered(tree: ast.Module, face: str = "") -> set[str]:
    """Names that others may import from a module.

    Args:
        tree: of the module.
        face: the module's name, where it is one that names what its private modules have.

    Returns:
        What it defines, lists in `__all__`, or imports from its private modules.
    """
    found = defined(tree) - {"__all__"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and "__all__" in map(ast.unparse, node.targets):
            found |= set(ast.literal_eval(node.value))
        elif isinstance(node, ast.ImportFrom) and node.module and face == face_of(node.module):
            found |= {alias.asname or alias.name for alias in node.names}
    return found


def imported(tree: ast.Module) -> dict[str, str]:
    """Names that a module imports at its top, each with the statement for it alone."""
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            found |= imported(ast.Module(node.body, []))
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            for alias in node.names:
                found[alias.asname or alias.name] = f"from {origin} import {ast.unparse(alias)}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.split(".")[0]
                found[bound] = f"import {ast.unparse(alias)}"
    return found
