"""Rules against collisions: core and the extensions use different names in shared places."""

import ast
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from celery import Task
from fastapi.routing import iter_route_contexts
from sqladmin import ModelView
from starlette.routing import Mount

from kit.architecture._imports import (
    extension_of,
    is_service_code,
    modules,
    place,
    place_of,
    tree,
)
from kit.architecture._names import schedule_keys
from kit.http import extension_title, own_group
from kit.places import service


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
