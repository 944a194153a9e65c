"""The service's parts keep apart, and each rule about that is seen to find what breaks it."""

import pytest
from sqlmodel import SQLModel

from app.core.celery import celery_app
from app.core.config import ServiceSettings
from kit.architecture._imports import extension_of, imports
from kit.extensions import present_extensions, public_name
from kit.queue import collect_schedules
from kit.tests.architecture.broken import findings, place_of_fault


def test_the_skeleton_shows_what_the_rules_look_at() -> None:
    """Otherwise they could pass because they look at nothing."""
    assert "_example" in present_extensions()
    assert public_name("_example") == "example"
    assert "example_note" in SQLModel.metadata.tables
    assert any(".example." in name for name in celery_app.tasks)
    assert any(key.startswith("_example.") for key in collect_schedules())
    assert any(
        extension_of(cls.__module__) == "_example" for cls in ServiceSettings.__subclasses__()
    )


def test_imports_are_read_in_each_form() -> None:
    found = {(each.importer, each.imported) for each in imports()}
    assert ("kit.errors", "kit.context") in found
    assert ("kit.database", "kit.settings") in found
    assert ("app.extensions._example.message_handlers", "kit.messages") in found


NO_PART = "is no part of an extension"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return findings(tmp_path_factory.mktemp("broken"))


@pytest.mark.slow
class TestEachRule:
    """In a copy of the service where all of them are broken, each names file and line."""

    @pytest.mark.parametrize(
        ("fault", "told"),
        [
            ("core's import", "imports app.extensions.alpha.models: core names no extension"),
            ("core's import for types", "imports app.extensions.beta: core names no extension"),
            ("extension's import", "imports app.extensions.beta.models: publish a message"),
            ("extension's relative import", "imports app.extensions.beta.api: publish a message"),
            ("extension's test's import", "imports app.extensions.beta: publish a message"),
            ("import of a test", "imports kit.testing: tests are no part of the image"),
            ("import of the service", "imports app.core.config: the kit imports nothing of the"),
            ("import of a private module", "imports kit.redis._pool: import it from kit.redis"),
            ("import upwards", "imports kit.queue: kit.queue is not below kit.context"),
            ("table", "has the table stray: its name has to begin with alpha_"),
            ("table without model", "has the table links: its name has to begin with alpha_"),
            ("settings", "has settings without the prefix: env_prefix has to be ALPHA_"),
            ("task", "is the task app.tasks.stray: its name has to begin with app.tasks.alpha."),
            ("schedule", "sends app.tasks.ping: an extension schedules its own tasks"),
            ("schedule elsewhere", "uses add_periodic_task: move the entry to SCHEDULES"),
            ("schedule in the configuration", "uses beat_schedule: move the entry to SCHEDULES"),
            ("message_handler.py", f"{NO_PART}: did you mean message_handlers"),
            ("task.py", f"{NO_PART}: did you mean tasks"),
            ("model.py", f"{NO_PART}: did you mean models"),
            ("signing.py", f"{NO_PART}, and nothing imports it"),
            ("route of core", "has the route GET /api/beta/rooms/{}, as core has: app/api/beta.py"),
            ("route of another", "has the route GET /api/beta/rooms, as _beta has: "),
            ("route below a mount", "has the route GET /static/rooms, below /static"),
            ("admin view", "has the admin view note, as alpha has: app/extensions/alpha/admin.py"),
            ("tag of core", "has the tag Tasks, as core has: kit/http/_routers.py:"),
            ("tag of another", "has the tag Rooms, as alpha has: app/extensions/alpha/api.py:"),
            ("tag of a group", "has the tag Beta, as _beta has: app/extensions/_beta/api.py:"),
            ("task of another", "has the task app.tasks.both, as alpha has: app/extensions/alpha/"),
            ("schedule of core", "has the schedule core.heartbeat, as core has: kit/queue/"),
        ],
    )
    def test_tells_the_line(self, found: list[str], fault: str, told: str) -> None:
        expected = f"{place_of_fault(fault)} {told}"
        assert any(line.startswith(expected) for line in found), "\n".join([expected, *found])

    @pytest.mark.parametrize(
        ("folder", "told"),
        [("apis", "did you mean api"), ("template", "did you mean templates")],
    )
    def test_tells_a_misspelt_folder(self, found: list[str], folder: str, told: str) -> None:
        assert f"app/extensions/gamma/{folder}:1 {NO_PART}: {told}" in found

    def test_tells_a_circle(self, found: list[str]) -> None:
        [told] = [line for line in found if "closes a cycle of imports" in line]
        assert told.startswith((place_of_fault("circle"), place_of_fault("circle's other half")))

    def test_takes_nothing_else_for_a_fault(self, found: list[str]) -> None:
        faults = 29 + 2 + 1
        # Celery has one task of a name that two extensions use, which lacks the prefix, too.
        assert len(found) == faults + 1, "\n".join(found)
