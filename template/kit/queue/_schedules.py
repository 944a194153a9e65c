"""The schedule: the tasks that beat sends, and when.

The service's entries are in `app/tasks/schedules.py`, an extension's in its `tasks/schedules.py`,
each as a dictionary `SCHEDULES` of Celery's beat entries; the kit has its own. Keys get a prefix
(`service.close-orders`, `hotel.daily-task`, `core.heartbeat`), so none can replace another's.
"""

import importlib
import importlib.util
import json
import traceback
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from celery.schedules import crontab
from celery.schedules import schedule as interval
from kombu.utils.json import JSONEncoder
from redbeat.schedules import rrule  # type: ignore[import-untyped]

from kit.extensions import enabled_extensions
from kit.places import service
from kit.settings import StartupError

ENTRY_KEYS = frozenset({"task", "schedule", "args", "kwargs", "options"})


class ScheduleError(StartupError):
    """A `schedules.py` is broken; the message names the file and the entry."""


def collect_schedules() -> dict[str, dict[str, Any]]:
    """Collect the entries of the kit, the service and the enabled extensions, by their full keys.

    Raises:
        ScheduleError: when a `schedules.py` cannot be imported, has no `SCHEDULES`, or has an
            entry with an unknown task or an invalid schedule.
    """
    service.celery_app.loader.import_default_modules()
    service.celery_app.finalize()
    entries = {}
    for owner, module_name in _schedule_modules():
        for name, entry in _read(module_name).items():
            _check(module_name, name, entry)
            entries[f"{owner}.{name}"] = entry
    return entries


def _schedule_modules() -> Iterator[tuple[str, str]]:
    yield "core", "kit.queue._tasks"
    if importlib.util.find_spec("app.tasks.schedules") is not None:
        yield "service", "app.tasks.schedules"
    for extension in enabled_extensions():
        package = f"app.extensions.{extension}.tasks"
        if importlib.util.find_spec(package) is None:
            continue
        # A single file `tasks.py` has no `__path__`, and no room for a schedule.
        is_folder = hasattr(importlib.import_module(package), "__path__")
        if is_folder and importlib.util.find_spec(f"{package}.schedules") is not None:
            yield extension, f"{package}.schedules"


def _read(module_name: str) -> dict[str, Any]:
    file = module_name.replace(".", "/") + ".py"
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1].lineno
        line = error.lineno if isinstance(error, SyntaxError) else line
        raise ScheduleError(
            f"{file} is broken at line {line}: {type(error).__name__}: {error}. Fix it."
        ) from error
    schedules = getattr(module, "SCHEDULES", None)
    if not isinstance(schedules, dict):
        raise ScheduleError(
            f"{file} defines no dictionary SCHEDULES; define one, or remove the file."
        )
    return schedules


def _check(module_name: str, name: str, entry: Any) -> None:
    where = f"{module_name.replace('.', '/')}.py: entry {name!r}"
    if not isinstance(entry, dict) or not {"task", "schedule"} <= entry.keys() <= ENTRY_KEYS:
        raise ScheduleError(
            f"{where} is {entry!r}, expected a dictionary with task and schedule, and at most "
            f"{', '.join(sorted(ENTRY_KEYS - {'task', 'schedule'}))}."
        )
    known = service.celery_app.tasks
    if entry["task"] not in known:
        raise ScheduleError(
            f"{where} names the task {entry['task']!r}, which does not exist; tasks: "
            f"{', '.join(sorted(task for task in known if not task.startswith('celery.')))}."
        )
    if not _is_schedule(entry["schedule"]):
        raise ScheduleError(
            f"{where} has the schedule {entry['schedule']!r}, expected seconds above 0, a "
            "timedelta, a crontab or an rrule of redbeat."
        )
    try:
        json.dumps([entry.get(key) for key in ("args", "kwargs", "options")], cls=JSONEncoder)
    except TypeError as error:
        raise ScheduleError(f"{where} cannot be kept as JSON: {error}.") from None


def _is_schedule(value: object) -> bool:
    if isinstance(value, int | float):
        return value > 0 and not isinstance(value, bool)
    if isinstance(value, timedelta):
        return value > timedelta()
    return isinstance(value, crontab | interval | rrule)
