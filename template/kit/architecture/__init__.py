"""Rules that keep the service's parts apart: each yields its violations, by file and line.

They check the source, and the names that the service registers when it is imported: an extension's
name is a prefix in shared places, its parts are known, and core and the extensions use different
names there.
"""

import ast
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from celery import Task
from fastapi.routing import iter_route_contexts
from sqladmin import ModelView
from sqlalchemy import Table
from sqlmodel import SQLModel
from starlette.routing import Mount

from kit.architecture._imports import (
    EXTENSIONS,
    core_imports_extensions,
    extension_of,
    extensions_import_each_other,
    imports,
    is_service_code,
    kit_imports_service,
    modules,
    modules_import_each_other,
    private_modules_are_imported,
    rooms_import_upwards,
    service_imports_tests,
    tree,
)
from kit.discovery import place, place_of
from kit.extensions import PARTS, close_part, extension_dir, present_extensions, public_name
from kit.http import extension_title, own_group
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


def unknown_parts() -> Iterator[str]:
    """Every module of an extension is one of its parts: a misspelt hook would be ignored silently.

    A module of another name is allowed, as long as one of the extension's parts imports it.
    """
    for extension in present_extensions():
        for path in sorted(extension_dir(extension).glob("[!._]*")):
            if path.stem in PARTS or not (path.is_dir() or path.suffix == ".py"):
                continue
            if close := close_part(path):
                yield f"{place(path, 1)} is no part of an extension: did you mean {close}"
            elif not _is_used(extension, path):
                yield f"{place(path, 1)} is no part of an extension, and nothing imports it"


def _is_used(extension: str, path: Path) -> bool:
    module = f"{EXTENSIONS}.{extension}.{path.stem}"
    own = (found for found in imports() if f"{found.imported}.".startswith(f"{module}."))
    return any(not f"{found.importer}.".startswith(f"{module}.") for found in own)


class Use(NamedTuple):
    """One owner's use of a name in a shared place."""

    owner: str | None
    """An extension; None for core."""
    name: str
    place: str


def colliding_routes() -> Iterator[str]:
    """Find two routes for the same requests, of which only the first is ever reached."""
    uses = list(_routes())
    yield from _collisions("route", uses)
    mounts = [route.path for route in service.application.routes if isinstance(route, Mount)]
    for use in uses:
        for mount in mounts:
            if use.owner and f" {mount}/" in use.name:
                yield f"{use.place} has the route {use.name}, below {mount}, which is core's"


def colliding_admin_views() -> Iterator[str]:
    """Find two admin views of one address, which SQLAdmin makes from the model's name alone."""
    return _collisions("admin view", _admin_views())


def colliding_tags() -> Iterator[str]:
    """Find a tag of two owners, which would be in both groups with the routes of both."""
    return _collisions("tag", _tags())


def colliding_tasks() -> Iterator[str]:
    """Find two tasks of one name, of which Celery keeps only the first."""
    return _collisions("task", _tasks())


def colliding_schedules() -> Iterator[str]:
    """Find two schedule entries of one key, of which the second replaces the first."""
    return _collisions("schedule", itertools.starmap(Use, schedule_keys()))


def _collisions(kind: str, uses: Iterable[Use]) -> Iterator[str]:
    first: dict[str, Use] = {}
    for use in sorted(uses, key=lambda use: use.owner or ""):
        other = first.setdefault(use.name, use)
        if other.owner != use.owner:
            owner = other.owner or "core"
            yield f"{use.place} has the {kind} {use.name}, as {owner} has: {other.place}"


def _routes() -> Iterator[Use]:
    for context in iter_route_contexts(service.application.routes):
        if context.path and context.endpoint:
            # Two paths that differ in a parameter's name alone match the same requests.
            path = re.sub(r"\{[^}]*\}", "{}", context.path)
            for method in sorted(context.methods or ()):
                yield _use(context.endpoint, f"{method} {path}")


def _admin_views() -> Iterator[Use]:
    waiting = [ModelView]
    while waiting:
        view = waiting.pop()
        waiting += view.__subclasses__()
        # Not its registered subclass, which has the kit's forms and the same model.
        if "model" in vars(view) and view.__module__.startswith(("app.", "kit.")):
            yield _use(view, view.identity)


def _tags() -> Iterator[Use]:
    for context in iter_route_contexts(service.application.routes):
        if context.endpoint and getattr(context, "include_in_schema", False):
            extension = extension_of(context.endpoint.__module__)
            group = extension_title(extension) if extension else own_group()
            for tag in context.tags or [group]:
                yield _use(context.endpoint, str(tag))


def _tasks() -> Iterator[Use]:
    """Read the tasks from the source: of one name, `celery_app.tasks` has only the first."""
    service.celery_app.loader.import_default_modules()
    for module in filter(is_service_code, modules()):
        names = vars(sys.modules[module]) if module in sys.modules else {}
        for node in tree(module).body:
            task = names.get(node.name) if isinstance(node, ast.FunctionDef) else None
            if isinstance(task, Task):
                yield Use(extension_of(module), task.name, place(modules()[module], node.lineno))


def _use(definition: type | Callable[..., object], name: str) -> Use:
    return Use(extension_of(definition.__module__), name, place_of(definition))


RULES = (
    core_imports_extensions,
    extensions_import_each_other,
    service_imports_tests,
    modules_import_each_other,
    kit_imports_service,
    private_modules_are_imported,
    rooms_import_upwards,
    unknown_parts,
    tables_without_name,
    tasks_without_name,
    schedules_without_name,
    schedules_elsewhere,
    settings_without_name,
    colliding_routes,
    colliding_admin_views,
    colliding_tags,
    colliding_tasks,
    colliding_schedules,
)
