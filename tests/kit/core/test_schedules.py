import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab

import app.extensions
from app.core.config import settings
from app.tasks.schedules import SCHEDULES
from kit.queue._tasks import ScheduleError, collect_schedules, heartbeat

CORE = {"core.heartbeat", "core.delete-old-audit"}
OWN = "app/tasks/schedules.py: entry 'own'"


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A good entry of core's, to be broken."""
    entry: dict[str, Any] = {"task": heartbeat.name, "schedule": 60}
    monkeypatch.setitem(SCHEDULES, "own", entry)
    return entry


@pytest.fixture
def inn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file `schedules.py` of an extension that is the only one enabled."""
    tasks = tmp_path / "inn" / "tasks"
    tasks.mkdir(parents=True)
    for package in (tasks.parent, tasks):
        (package / "__init__.py").touch()
    monkeypatch.setattr("kit.extensions.EXTENSIONS_DIR", tmp_path)
    only_inn = settings.model_copy(update={"ENABLED_EXTENSIONS": ["inn"]})
    monkeypatch.setattr("kit.extensions.settings", only_inn)
    monkeypatch.setattr(app.extensions, "__path__", [str(tmp_path)])
    yield tasks / "schedules.py"
    for name in [name for name in sys.modules if name.startswith("app.extensions.inn")]:
        del sys.modules[name]


def test_an_entry_gets_its_owners_name_as_a_prefix(inn: Path) -> None:
    inn.write_text(f"SCHEDULES = {{'daily-task': {{'task': {heartbeat.name!r}, 'schedule': 9}}}}")
    assert set(collect_schedules()) == CORE | {"inn.daily-task"}


def test_what_runs_often_expires_before_the_next() -> None:
    """Without a worker it would pile up, until Redis is full."""
    often = {
        name: entry
        for name, entry in collect_schedules().items()
        if isinstance(entry["schedule"], int | float) and not name.startswith("service.")
    }
    assert "core.heartbeat" in often
    for name, entry in often.items():
        assert entry.get("options", {}).get("expires", 1e9) <= entry["schedule"], name


def test_an_extension_without_schedules_is_fine(inn: Path) -> None:
    assert set(collect_schedules()) == CORE


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import nothing_of_that_name\n", 1),
        ("\n\nSCHEDULES = {\n", 3),
        ("x = 1\nSCHEDULES = {'a': undefined}\n", 2),
    ],
)
def test_a_file_that_cannot_be_imported_names_itself(inn: Path, text: str, line: int) -> None:
    inn.write_text(text)
    expected = rf"cannot import app\.extensions\.inn\.tasks\.schedules: {inn}:{line}: \w+Error: "
    with pytest.raises(ScheduleError, match=expected):
        collect_schedules()


@pytest.mark.parametrize("text", ["", "SCHEDULE = {}", "SCHEDULES = []"])
def test_a_file_without_schedules_names_itself(inn: Path, text: str) -> None:
    inn.write_text(text)
    with pytest.raises(ScheduleError, match="inn/tasks/schedules.py defines no dictionary"):
        collect_schedules()


@pytest.mark.parametrize("schedule", [1, 0.5, timedelta(days=1), crontab(minute="*/5")])
def test_schedules_of_each_kind_are_taken(entry: dict[str, Any], schedule: object) -> None:
    entry["schedule"] = schedule
    assert collect_schedules()["service.own"]["schedule"] == schedule


@pytest.mark.parametrize("schedule", [0, -1, True, "daily", None, timedelta()])
def test_what_is_no_schedule_is_refused(entry: dict[str, Any], schedule: object) -> None:
    entry["schedule"] = schedule
    with pytest.raises(ScheduleError, match=f"{OWN} has the schedule .* expected seconds"):
        collect_schedules()


def test_a_time_zone_that_redbeat_would_forget_is_refused(entry: dict[str, Any]) -> None:
    entry["schedule"] = crontab(hour=7, nowfun=lambda: datetime.now(ZoneInfo("Europe/Berlin")))
    with pytest.raises(ScheduleError, match=f"{OWN} has a schedule with `nowfun`.*UTC"):
        collect_schedules()


def test_a_task_that_nobody_defines_is_refused(entry: dict[str, Any]) -> None:
    entry["task"] = "app.tasks.heartbeet"
    with pytest.raises(ScheduleError, match=rf"{OWN} names the task .*{heartbeat.name}"):
        collect_schedules()


@pytest.mark.parametrize("key", ["arguments", "crontab"])
def test_a_key_that_beat_does_not_know_is_refused(entry: dict[str, Any], key: str) -> None:
    entry[key] = []
    with pytest.raises(ScheduleError, match=f"{OWN} is .* at most args, kwargs, options"):
        collect_schedules()


def test_an_argument_that_is_no_json_is_refused(entry: dict[str, Any]) -> None:
    entry["args"] = [object()]
    with pytest.raises(ScheduleError, match=f"{OWN} cannot be kept as JSON"):
        collect_schedules()
