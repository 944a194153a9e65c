"""Rules about names: an extension's name is a prefix in shared places, and its parts are known."""

import ast
import difflib
import sys
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Table
from sqlmodel import SQLModel

from kit.architecture._imports import (
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
"""Celery's own ways to add schedule entries, which get no prefix."""


def tables_without_name() -> Iterator[str]:
    """The name of an extension's table begins with the extension's: `hotel_room`."""
    load_metadata()
    for extension, table, where in _tables():
        prefix = f"{public_name(extension)}_"
        if not table.startswith(prefix):
            yield f"{where} has the table {table}: its name has to begin with {prefix}"


def tasks_without_name() -> Iterator[str]:
    """The name of an extension's task has the extension's: `app.tasks.hotel.send_arrivals`."""
    service.celery_app.loader.import_default_modules()
    for name, task in service.celery_app.tasks.items():
        extension = extension_of(task.__module__)
        if extension and not name.startswith(task_prefix(extension)):
            where = place_of(task.run)
            yield f"{where} is the task {name}: its name has to begin with {task_prefix(extension)}"


def schedules_without_name() -> Iterator[str]:
    """An extension schedules only its own tasks; the prefix of an entry's key is added to it."""
    entries = collect_schedules()
    for extension, key, where in schedule_keys():
        task = entries[key]["task"] if key in entries else ""
        if extension and task and not task.startswith(task_prefix(extension)):
            yield (
                f"{where} sends {task}: an extension schedules its own tasks, whose names begin "
                f"with {task_prefix(extension)}"
            )


def schedules_elsewhere() -> Iterator[str]:
    """Schedule entries are in `tasks/schedules.py`, or their keys would lack the prefix."""
    for module in filter(is_service_code, modules()):
        if not extension_of(module):
            continue
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Attribute) and node.attr in SCHEDULING:
                where = place(modules()[module], node.lineno)
                yield f"{where} uses {node.attr}: move the entry to SCHEDULES in tasks/schedules.py"


def settings_without_name() -> Iterator[str]:
    """The name of an extension's setting begins with the extension's: `HOTEL_CURRENCY`."""
    service.module("main")  # imports everything
    for cls in ServiceSettings.__subclasses__():
        extension = extension_of(cls.__module__)
        prefix = f"{public_name(extension).upper()}_" if extension else ""
        if extension and cls.model_config.get("env_prefix") != prefix:
            yield f"{place_of(cls)} has settings without the prefix: env_prefix has to be {prefix}"


def task_prefix(extension: str) -> str:
    """Prefix of the names of an extension's tasks."""
    return f"{settings.CELERY_TASKS_MODULE}.{public_name(extension)}."


def schedule_keys() -> Iterator[tuple[str | None, str, str]]:
    """Yield the extension, stored key and place of each entry of every `SCHEDULES`."""
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
    """Yield the extension, name and place of each table, with or without a model."""
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
    """Every module of an extension is one of its parts: a misspelt hook would be ignored silently.

    A module of another name is allowed, as long as one of the extension's parts imports it.
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
