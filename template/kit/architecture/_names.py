"""What an extension puts into places that it shares carries its name, and its parts are known."""

import ast
import difflib
import sys
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Table
from sqlmodel import SQLModel

from kit.architecture._source import (
    EXTENSIONS,
    extension_of,
    imports,
    is_service_code,
    modules,
    place,
    place_of,
    tree,
)
from kit.extensions import HOOKS, extension_dir, present_extensions, public_name
from kit.migrations import load_metadata
from kit.places import service
from kit.queue import collect_schedules
from kit.settings import ServiceSettings, settings

SCHEDULING = ("add_periodic_task", "beat_schedule")
"""Celery's own ways, beside which an entry gets no prefix."""


def tables_without_name() -> Iterator[str]:
    """`hotel_room` is a table of `hotel`."""
    load_metadata()
    for extension, table, where in _tables():
        prefix = f"{public_name(extension)}_"
        if not table.startswith(prefix):
            yield f"{where} has the table {table}: its name has to begin with {prefix}"


def tasks_without_name() -> Iterator[str]:
    """`app.tasks.hotel.send_arrivals` is a task of `hotel`."""
    service.celery_app.loader.import_default_modules()
    for name, task in service.celery_app.tasks.items():
        extension = extension_of(task.__module__)
        if extension and not name.startswith(task_prefix(extension)):
            where = place_of(task.run)
            yield f"{where} is the task {name}: its name has to begin with {task_prefix(extension)}"


def schedules_without_name() -> Iterator[str]:
    """`hotel.daily-task` sends a task of `hotel`. The key's prefix comes by itself."""
    entries = collect_schedules()
    for extension, key, where in schedule_keys():
        task = entries[key]["task"] if key in entries else ""
        if extension and task and not task.startswith(task_prefix(extension)):
            yield (
                f"{where} sends {task}: an extension schedules its own tasks, whose names begin "
                f"with {task_prefix(extension)}"
            )


def schedules_elsewhere() -> Iterator[str]:
    """An entry that stands in no `tasks/schedules.py` has a key without the extension's name."""
    for module in filter(is_service_code, modules()):
        if not extension_of(module):
            continue
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Attribute) and node.attr in SCHEDULING:
                where = place(modules()[module], node.lineno)
                yield f"{where} uses {node.attr}: entries stand in SCHEDULES of tasks/schedules.py"


def settings_without_name() -> Iterator[str]:
    """`HOTEL_CURRENCY` is a setting of `hotel`."""
    service.module("main")  # imports all
    for cls in ServiceSettings.__subclasses__():
        extension = extension_of(cls.__module__)
        prefix = f"{public_name(extension).upper()}_" if extension else ""
        if extension and cls.model_config.get("env_prefix") != prefix:
            yield f"{place_of(cls)} has settings without the prefix: env_prefix has to be {prefix}"


def task_prefix(extension: str) -> str:
    """How the names of an extension's tasks begin."""
    return f"{settings.CELERY_TASKS_MODULE}.{public_name(extension)}."


def schedule_keys() -> Iterator[tuple[str | None, str, str]]:
    """Extension, stored key and place of each entry of every module with `SCHEDULES`."""
    for module, path in modules().items():
        extension = extension_of(module)
        package = f"{EXTENSIONS}.{extension}" if extension else "app"
        if module == f"{package}.tasks.schedules":
            for key, line in _keys_of_schedules(module):
                yield extension, f"{extension or 'service'}.{key}", place(path, line)
        elif module == "kit.queue._tasks":
            for key, line in _keys_of_schedules(module):
                yield None, f"core.{key}", place(path, line)


def _keys_of_schedules(module: str) -> Iterator[tuple[str, int]]:
    for node in tree(module).body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if "SCHEDULES" in _names_assigned(node) and isinstance(value, ast.Dict):
            for key in value.keys:
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield key.value, key.lineno


def _tables() -> Iterator[tuple[str, str, str]]:
    """Extension, name and place of each table: of the models, and of tables without a model."""
    for mapper in SQLModel._sa_registry.mappers:
        extension, table = extension_of(mapper.class_.__module__), mapper.local_table
        if extension and isinstance(table, Table):
            yield extension, table.name, place_of(mapper.class_)
    for module in filter(is_service_code, modules()):
        extension = extension_of(module)
        if not extension or module not in sys.modules:
            continue
        for node in tree(module).body:
            for name in _names_assigned(node):
                value = getattr(sys.modules[module], name, None)
                if isinstance(value, Table):
                    yield extension, value.name, place(modules()[module], node.lineno)


def _names_assigned(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    return [target.id for target in targets if isinstance(target, ast.Name)]


FOLDERS = ("migrations", "templates", "tests")
MODULES = (*HOOKS, "settings")


def unknown_parts() -> Iterator[str]:
    """A misspelt hook would be passed over in silence.

    A module of another name is the extension's own business, as long as one of its parts uses it.
    """
    for extension in present_extensions():
        for path in sorted(extension_dir(extension).glob("[!._]*")):
            is_known = path.stem in MODULES or (path.is_dir() and path.name in FOLDERS)
            if is_known or not (path.is_dir() or path.suffix == ".py"):
                continue
            names = (*MODULES, *FOLDERS)
            [close] = difflib.get_close_matches(path.stem, names, n=1, cutoff=0.8) or [""]
            if close:
                yield f"{place(path, 1)} is no part of an extension: did you mean {close}"
            elif not _is_used(extension, path):
                yield f"{place(path, 1)} is no part of an extension, and nothing imports it"


def _is_used(extension: str, path: Path) -> bool:
    module = f"{EXTENSIONS}.{extension}.{path.stem}"
    own = (found for found in imports() if f"{found.imported}.".startswith(f"{module}."))
    return any(not f"{found.importer}.".startswith(f"{module}.") for found in own)
