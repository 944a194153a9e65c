"""What an owner may change fails no rendered test; what they break does."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service import Service

pytestmark = pytest.mark.xdist_group("owners_freedom")

SCHEDULE = '''"""When the service's tasks run."""

from typing import Any

from celery.schedules import crontab

from app.tasks.orders import close_old_orders

SCHEDULES: dict[str, dict[str, Any]] = {
    "close-old-orders": {"task": close_old_orders.name, "schedule": crontab(hour=3, minute=0)},
}
'''

TASK = '''"""Orders."""

from app.core.celery import celery_app
from app.core.config import settings


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.close_old_orders")
def close_old_orders() -> int:
    """Close what is old; returns how many orders that were."""
    return 0
'''

PRIVATE_IMPORT = """
from fastapi import APIRouter

from kit.redis import _pool

router = APIRouter()
assert _pool
"""

MODEL = """
from sqlmodel import Field, SQLModel


class Order(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
"""


@pytest.fixture
def owned(service: Service, service_folder: Path) -> Iterator[Service]:
    """A copy of the default project that runs in the environment of the first."""
    folder = service_folder / "owned"
    shutil.copytree(service.folder, folder, ignore=shutil.ignore_patterns(".venv", ".git"))
    shutil.rmtree(folder / "kit" / "tests")  # an owner has them by request alone
    shared = {"UV_PROJECT_ENVIRONMENT": str(service.folder / ".venv"), "UV_NO_SYNC": "1"}
    yield Service(folder, service.environment | shared)
    shutil.rmtree(folder)


def put(project: Service, path: str, text: str) -> None:
    file = project.folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


@pytest.mark.full
def test_a_schedule_another_start_page_no_skeleton_and_another_name_fail_nothing(
    owned: Service,
) -> None:
    put(owned, "app/tasks/billing/orders.py", TASK.replace("close_old", "bill_old"))
    put(owned, "app/tasks/orders.py", TASK)
    put(owned, "app/tasks/schedules.py", SCHEDULE)
    put(
        owned,
        "templates/index.html",
        '{% extends "base.html" %}\n{% block content %}<h1>Orders</h1>{% endblock %}\n',
    )
    shutil.rmtree(owned.folder / "app" / "extensions" / "_example")
    pyproject = (owned.folder / "pyproject.toml").read_text(encoding="utf-8")
    put(owned, "pyproject.toml", pyproject.replace('"My Service"', '"Größe & Söhne"'))

    output = owned.make("test")

    assert " passed" in output
    assert "failed" not in output


@pytest.mark.full
@pytest.mark.parametrize(
    ("path", "text", "says"),
    [
        (
            "app/tasks/schedules.py",
            SCHEDULE.replace("close_old_orders.name", "'app.tasks.nowhere'"),
            "app/tasks/schedules.py: entry 'close-old-orders' names the task",
        ),
        (
            "app/api/orders.py",
            PRIVATE_IMPORT,
            "imports kit.redis._pool: import it from kit.redis",
        ),
        (
            "app/models/order.py",
            MODEL,
            "test_migrations_and_models_make_the_same_database",
        ),
        ("templates/index.html", "{{ nothing_of_that_name }}\n", "TestEveryPage"),
    ],
    ids=["schedule", "private import", "model without migration", "page"],
)
def test_what_its_owner_breaks_fails(owned: Service, path: str, text: str, says: str) -> None:
    put(owned, "app/tasks/orders.py", TASK)
    put(owned, path, text)

    assert says in owned.make("test", status=2)
