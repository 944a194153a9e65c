"""A copy of the service that breaks every rule, to see that each is noticed.

The line that breaks one ends in a comment, `# <- table`, by which its place is found.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

from app.core.config import BASE_DIR

ENABLED = ("_example", "alpha", "beta", "_beta", "core", "static")

MODELS = """
    from sqlmodel import Field, SQLModel

    class Note(SQLModel, table=True):
        __tablename__ = "{extension}_note"
        id: int | None = Field(default=None, primary_key=True)
    """

API = """
    from fastapi import APIRouter

    router = APIRouter()
    """

FILES = {
    "app/core/broken.py": """
        from typing import TYPE_CHECKING

        import app.extensions.alpha.models  # <- core's import
        from kit.testing import create_database  # <- import of a test

        if TYPE_CHECKING:
            from app.extensions import beta  # <- core's import for types

        def late():
            from app.core import circle  # <- circle
        """,
    "app/core/circle.py": "import app.core.broken  # <- circle's other half",
    "kit/errors/broken.py": "from app.core import config  # <- import of the service",
    "kit/context/broken.py": "from kit.queue import enqueue  # <- import upwards",
    "app/api/beta.py": """
        from fastapi import APIRouter

        from kit.redis import _pool  # <- import of a private module

        router = APIRouter(prefix="/beta")

        @router.get("/rooms/{number}")
        def read_room(number: int): ...
        """,
    "alpha/models.py": MODELS.format(extension="alpha")
    + """
    class Stray(SQLModel, table=True):  # <- table
        __tablename__ = "stray"
        id: int | None = Field(default=None, primary_key=True)

    from sqlalchemy import Column, Integer, Table

    links = Table("links", SQLModel.metadata, Column("id", Integer))  # <- table without model
    """,
    "alpha/settings.py": """
        from app.core.config import ServiceSettings

        class AlphaSettings(ServiceSettings):  # <- settings
            SIZE: int = 1

        alpha_settings = AlphaSettings.load()
        """,
    "alpha/api.py": API
    + """
    from app.extensions.alpha.settings import alpha_settings

    @router.get("/rooms", tags=["Rooms"])
    def list_rooms(): ...

    @router.get("/tasks", tags=["Tasks"])  # <- tag of core
    def list_tasks(): ...
    """,
    "alpha/admin.py": """
        from sqladmin import ModelView
        from app.extensions.alpha.models import Note

        class NoteAdmin(ModelView, model=Note): ...

        def setup_admin(admin):
            admin.add_view(NoteAdmin)
        """,
    "alpha/tasks/__init__.py": """
        from app.core.celery import celery_app

        @celery_app.task(name="app.tasks.stray")  # <- task
        def stray(): ...

        @celery_app.task(name="app.tasks.alpha.own")
        def own(): ...

        @celery_app.task(name="app.tasks.both")
        def both(): ...
        """,
    "alpha/tasks/schedules.py": """
        SCHEDULES = {
            "own": {"task": "app.tasks.alpha.own", "schedule": 60},
            "other": {"task": "app.tasks.ping", "schedule": 60},  # <- schedule
        }
        """,
    "alpha/message_handlers.py": """
        from app.extensions.beta.models import Note  # <- extension's import
        from ..beta import api  # <- extension's relative import
        """,
    "alpha/tests/test_api.py": "import app.extensions.beta  # <- extension's test's import",
    "beta/models.py": MODELS.format(extension="beta"),
    "beta/api.py": API
    + """
    @router.get("/rooms")  # <- route of another, tag of a group
    def list_rooms(): ...

    @router.get("/rooms/{name}", tags=["Rooms"])  # <- route of core, tag of another
    def read_room(name: str): ...
    """,
    "beta/admin.py": """
        from sqladmin import ModelView
        from app.extensions.beta.models import Note

        class NoteAdmin(ModelView, model=Note): ...  # <- admin view

        def setup_admin(admin):
            admin.add_view(NoteAdmin)
        """,
    "beta/tasks.py": """
        from app.core.celery import celery_app

        @celery_app.task(name="app.tasks.both")
        def both():  # <- task of another
            ...
        """,
    "beta/message_handlers.py": """
        from app.core.celery import celery_app

        def schedule():
            celery_app.add_periodic_task(60, "app.tasks.both")  # <- schedule elsewhere
            celery_app.conf.beat_schedule["daily"] = {}  # <- schedule in the configuration
        """,
    "_beta/api.py": API
    + """
    @router.get("/rooms")
    def list_rooms(): ...
    """,
    "core/tasks/__init__.py": """
        from app.core.celery import celery_app

        @celery_app.task(name="app.tasks.core.beat")
        def beat(): ...
        """,
    "core/tasks/schedules.py": """
        SCHEDULES = {
            "heartbeat": {"task": "app.tasks.core.beat", "schedule": 60},  # <- schedule of core
        }
        """,
    "static/api.py": API
    + """
    page_router = APIRouter(include_in_schema=False)

    @page_router.get("/rooms")  # <- route below a mount
    def show_rooms(): ...
    """,
    "gamma/message_handler.py": "# <- message_handler.py",
    "gamma/apis/notes.py": "",
    "gamma/task.py": "# <- task.py",
    "gamma/model.py": "# <- model.py",
    "gamma/signing.py": "# <- signing.py",
    "gamma/template/page.html": "",
}


PRINT_FINDINGS = """
import sys
from kit.architecture import RULES
for rule in RULES:
    sys.stdout.writelines(f"{finding}\\n" for finding in rule())
"""


def findings(project: Path) -> list[str]:
    """What the rules find in a copy of the service, which they read and import in its folder."""
    for folder in ("app", "kit", "static", "templates"):
        shutil.copytree(
            BASE_DIR / folder,
            project / folder,
            ignore=shutil.ignore_patterns("__pycache__", "tests"),
        )
    for name, text in _files():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PRINT_FINDINGS],
        cwd=project,
        env={**os.environ, "ENABLED_EXTENSIONS": ",".join(ENABLED)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def place_of_fault(mark: str) -> str:
    """File and line of the comment with these words."""
    [found] = [
        f"{name}:{number}"
        for name, text in _files()
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(rf"# <- (.*, )?{re.escape(mark)}(, .*)?$", line)
    ]
    return found


def _files() -> Iterator[tuple[str, str]]:
    for name, text in FILES.items():
        inner = name if name.startswith(("app/", "kit/")) else f"app/extensions/{name}"
        yield inner, dedent(text).lstrip()
    for extension in (*ENABLED[1:], "gamma"):
        yield f"app/extensions/{extension}/__init__.py", ""
