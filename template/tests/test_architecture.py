"""Rules that keep the service's parts apart, read from the source and from what it registers.

An import inside of a function counts as any other: it spares time at the start, not the arrow.
"""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from sqlmodel import SQLModel

from app.core.celery import celery_app
from app.core.config import BASE_DIR, ServiceSettings
from app.core.extensions import enabled_extensions, load_extensions, present_extensions
from app.core.schedules import collect_schedules

EXTENSIONS = "app.extensions"

for _hook in ("models", "api", "tasks"):
    load_extensions(_hook)


def public_name(extension: str) -> str:
    """What tables, tasks and settings carry: the skeleton `_example` names them `example`."""
    return extension.strip("_")


def extension_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[2] if module.startswith(f"{EXTENSIONS}.") else None


@cache
def modules() -> dict[str, Path]:
    """Every module of the service by its name; tests and migrations are no part of it."""
    # Python 3.11's glob does not follow links, and an extension's folder may be one.
    folders = [BASE_DIR / "app", *(BASE_DIR / "app" / "extensions").glob("*/")]
    found = {}
    for folder in folders:
        for path in folder.rglob("*.py"):
            parts = path.relative_to(BASE_DIR).with_suffix("").parts
            if not {"tests", "migrations"} & set(parts[3:]):
                found[".".join(parts).removesuffix(".__init__")] = path
    return found


@cache
def imports() -> dict[str, set[str]]:
    """For each module, the service's modules that it imports, at once or later."""
    return {
        name: {found for found in _imported(path, name) if found in modules()} - {name}
        for name, path in modules().items()
    }


def _imported(path: Path, module: str) -> Iterator[str]:
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    for node in _statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, node.module or ""]).strip(".") if node.level else node.module
            for alias in node.names:
                submodule = f"{base}.{alias.name}"
                yield submodule if submodule in modules() else str(base)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _statements(child)


class TestImports:
    def test_the_reading_finds_what_there_is(self) -> None:
        assert "app.core.request_context" in imports()["app.core.errors"]
        assert "app.core.messages" in imports()["app.extensions._example.message_handlers"]
        assert "app.core.database" in imports()["app.core.messages"]  # from app.core import …

    def test_core_imports_no_extension(self) -> None:
        broken = [
            f"{name} imports {other}"
            for name, others in imports().items()
            for other in others
            if extension_of(name) is None and extension_of(other) is not None
        ]
        assert broken == []

    def test_extensions_do_not_import_each_other(self) -> None:
        broken = [
            f"{name} imports {other}: publish a message instead"
            for name, others in imports().items()
            for other in others
            if extension_of(name) and extension_of(other) not in (None, extension_of(name))
        ]
        assert broken == []

    def test_there_is_no_circle(self) -> None:
        try:
            TopologicalSorter(imports()).prepare()
        except CycleError as error:
            pytest.fail("modules import each other: " + " -> ".join(error.args[1]))

    def test_the_service_does_not_import_its_tests(self) -> None:
        for name, path in modules().items():
            assert not [m for m in _imported(path, name) if m.split(".")[0] == "tests"], name


@pytest.mark.parametrize("extension", enabled_extensions())
class TestNames:
    """What extensions put into shared places carries their names."""

    def test_tables(self, extension: str) -> None:
        owned = [
            mapper.local_table
            for mapper in SQLModel._sa_registry.mappers
            if extension_of(mapper.class_.__module__) == extension
        ]
        for table in owned:
            assert str(table).startswith(f"{public_name(extension)}_"), table

    def test_tasks(self, extension: str) -> None:
        celery_app.loader.import_default_modules()
        for name, task in celery_app.tasks.items():
            if extension_of(task.__module__) == extension:
                assert f".{public_name(extension)}." in name, name

    def test_schedules_send_the_extensions_own_tasks(self, extension: str) -> None:
        for key, entry in collect_schedules().items():
            if key.startswith(f"{extension}."):
                assert f".{public_name(extension)}." in entry["task"], key

    def test_settings(self, extension: str) -> None:
        for cls in ServiceSettings.__subclasses__():
            if extension_of(cls.__module__) == extension:
                assert cls.model_config.get("env_prefix") == f"{public_name(extension).upper()}_"


def test_the_skeleton_shows_each_of_them() -> None:
    """Otherwise the rules above could pass because nothing is looked at."""
    assert "_example" in present_extensions()
    assert "example_note" in SQLModel.metadata.tables
    assert any(".example." in name for name in celery_app.tasks)
    assert any(key.startswith("_example.") for key in collect_schedules())
    assert any(
        extension_of(cls.__module__) == "_example" for cls in ServiceSettings.__subclasses__()
    )
