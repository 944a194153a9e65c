"""What owners of a service change before it crosses into `kit/`, in files of every kind.

Each edit carries a word that is found nowhere else, so that it can be found again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Change = Callable[[str], str]


@dataclass(frozen=True)
class Edit:
    """An edit of one file.

    Args:
        path: of the file, in the old release.
        change: makes the new text from the old one.
        word: that the edit holds and nothing else does.
        then: the file that has to hold it afterwards; the same one where it is empty.
    """

    path: str
    change: Change
    word: str
    then: str = ""

    @property
    def place(self) -> str:
        """The file that has to hold the edit afterwards."""
        return self.then or self.path


def below(line: str, text: str) -> Change:
    """Put a text below the first place that reads so."""
    return lambda content: _replaced(content, line, line + text)


def above(line: str, text: str) -> Change:
    """Put a text above the first place that reads so."""
    return lambda content: _replaced(content, line, text + line)


def instead(old: str, new: str) -> Change:
    """Replace the first place that reads so."""
    return lambda content: _replaced(content, old, new)


def at_end(text: str) -> Change:
    """Put a text at the end."""
    return lambda content: content.rstrip("\n") + "\n" + text


def own(text: str) -> Change:
    """A file of the owner's own."""
    return lambda _: text


def both(*changes: Change) -> Change:
    """One change after another."""

    def change(content: str) -> str:
        for each in changes:
            content = each(content)
        return content

    return change


def _replaced(content: str, old: str, new: str) -> str:
    if old not in content:
        raise AssertionError(f"there is no {old!r}")
    return content.replace(old, new, 1)


def apply(edits: Sequence[Edit], project: Path) -> None:
    """Make the edits in a project."""
    for edit in edits:
        path = project / edit.path
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(edit.change(before), encoding="utf-8")


SETTINGS = "app/core/config.py"
EDITS_OF_SETTINGS = [
    Edit(
        SETTINGS,
        below("import ssl\n", "from decimal import Decimal\n"),
        "from decimal import Decimal",
    ),
    Edit(
        SETTINGS,
        below('SUPABASE_POOLER_SUFFIX = ".pooler.supabase.com"\n', 'FINE = Decimal("0.2")\n'),
        "FINE = Decimal",
    ),
    Edit(
        SETTINGS,
        above(
            "\n    # Redis\n",
            '    CURRENCY: str = Field("EUR", description="Currency of fines.")\n',
        ),
        "CURRENCY: str",
    ),
    Edit(
        SETTINGS,
        above(
            '\n    @model_validator(mode="before")\n',
            '\n    # Loans\n    LOAN_DAYS: int = Field(14, ge=1, description="Days of a loan.")\n',
        ),
        "LOAN_DAYS: int",
    ),
    Edit(
        SETTINGS,
        instead(
            "REDIS_POOL_SIZE: int = Field(\n        2,", "REDIS_POOL_SIZE: int = Field(\n        3,"
        ),
        "        3,",
    ),
    Edit(
        SETTINGS,
        above(
            '    @field_validator("CELERY_TIMEZONE")',
            '    @field_validator("LOAN_DAYS")\n'
            "    @classmethod\n"
            "    def _whole_weeks(cls, value: int) -> int:\n"
            "        if value % 7:\n"
            '            raise ValueError("whole weeks are expected")\n'
            "        return value\n\n",
        ),
        "whole weeks are expected",
    ),
    Edit(
        SETTINGS,
        above(
            "    def _postgres_url(self",
            "    @property\n"
            "    def fine_text(self) -> str:\n"
            '        """What a fine is called."""\n'
            '        return f"{FINE} {self.CURRENCY}"\n\n',
        ),
        "def fine_text",
    ),
    Edit(
        SETTINGS,
        instead('return ["*"]', 'return ["*"]  # every_origin'),
        "every_origin",
        "kit/settings/_service.py",
    ),
]

EDITS_OF_SHORT_FILES = [
    Edit(
        "app/admin/views.py",
        both(
            below(
                "from app.models.api_token import ApiToken\n",
                "from app.models.library.book import Book\n",
            ),
            at_end(
                "\n\nclass BookAdmin(ModelView, model=Book):\n"
                '    """Books."""\n\n'
                '    column_formatters = {"added_at": short_time}  # noqa: RUF012\n'
            ),
        ),
        "class BookAdmin",
    ),
    Edit(
        "app/admin/views.py",
        instead(
            'column_searchable_list = ("name", "hint")',
            'column_searchable_list = ("name",)  # no_hint',
        ),
        "no_hint",
        "kit/admin/_views.py",
    ),
    Edit(
        "app/admin/filters.py",
        at_end('\n\nclass ShelfFilter(SimpleFilter):\n    """Books of a shelf."""\n'),
        "class ShelfFilter",
    ),
    Edit(
        "app/core/admin.py",
        at_end('\n\ndef admin_address() -> str:\n    """Where it is."""\n    return ADMIN_PATH\n'),
        "def admin_address",
    ),
    Edit(
        "app/core/admin.py",
        instead("title=settings.PROJECT_NAME", 'title=settings.PROJECT_NAME + " desk"'),
        '" desk"',
        "kit/admin/_setup.py",
    ),
    Edit(
        "app/core/celery.py",
        at_end(
            "\n\n@signals.task_failure.connect\n"
            "def _report_failure(**_: Any) -> None:  # noqa: ANN401\n"
            '    logger.error("a loan failed")\n'
        ),
        "a loan failed",
    ),
    Edit(
        "app/core/celery.py",
        instead("bind_task_id(task_id)", "bind_task_id(task_id)  # bound_first"),
        "bound_first",
        "kit/queue/_app.py",
    ),
    Edit(
        "app/core/celery.py",
        below(
            '        "worker_prefetch_multiplier": 1,\n',
            '        "task_default_priority": 5,\n',
        ),
        "task_default_priority",
        "kit/queue/_app.py",
    ),
    Edit(
        "app/core/database.py",
        both(
            instead("    max_overflow=0,\n", "    max_overflow=0,\n    pool_recycle=1800,\n"),
            at_end(
                '\n\n@event.listens_for(sync_engine, "connect")\n'
                "def _note_connection(*_: object) -> None:\n"
                '    """A connection was made."""\n'
            ),
        ),
        "pool_recycle=1800",
    ),
    Edit(
        "app/core/database.py",
        instead("cannot write {changed!r}", "never writes {changed!r}"),
        "never writes",
        "kit/database/_read_only.py",
    ),
    Edit(
        "app/core/dependencies.py",
        at_end(
            '\n\ndef get_branch() -> str:\n    """Which library."""\n    return "north"\n\n\n'
            "BranchDep = Annotated[str, Depends(get_branch)]\n"
        ),
        "BranchDep =",
    ),
    Edit(
        "app/core/templates.py",
        at_end('templates.env.globals["opened"] = 1911\n'),
        '["opened"] = 1911',
    ),
    Edit(
        "app/core/openapi_tags.py",
        both(
            below('    TASKS = "Tasks"\n', '    BOOKS = "Books"\n'),
            below('how it is doing.",\n', '    APITag.BOOKS: "What can be lent.",\n'),
        ),
        "What can be lent",
    ),
    Edit(
        "app/core/task_context.py",
        at_end('\n\ndef task_mark() -> str:\n    """Short."""\n    return get_task_id()[:1]\n'),
        "def task_mark",
    ),
    Edit(
        "app/tasks/schedules.py",
        instead(
            "    },\n}\n",
            "    },\n"
            "    # Loans end at night.\n"
            '    "close-loans": {"task": "app.tasks.close_loans", "schedule": 3600},\n}\n',
        ),
        '"close-loans": {',
    ),
    Edit(
        "app/main.py",
        both(
            instead("    yield\n", '    logger.info("open shelves")\n    yield\n'),
            below("    yield\n", '    logger.info("close shelves")\n'),
        ),
        "close shelves",
    ),
    Edit(
        "app/main.py",
        both(
            above(
                "from app.core.admin import setup_admin\n",
                "from app.api.desk import router as desk_router\n",
            ),
            below(
                "    app.include_router(pages_router)\n", "    app.include_router(desk_router)\n"
            ),
            below("        redoc_url=None,\n", '        version="1911",\n'),
        ),
        "app.include_router(desk_router)",
    ),
    Edit(
        "app/main.py",
        instead("await flush_token_uses()", "await flush_token_uses()  # all_of_them"),
        "all_of_them",
        "kit/lifespan.py",
    ),
    Edit(
        "alembic/env.py",
        below(
            "        on_version_apply=note_applied,  # type: ignore[arg-type] "
            "# is called with keywords\n",
            "        transaction_per_migration=False,\n",
        ),
        "transaction_per_migration",
        "kit/migrations/_env.py",
    ),
    Edit(
        "app/models/__init__.py",
        at_end("\n# Books are in library/.\n"),
        "Books are in library/",
    ),
    Edit(
        "app/api/pages.py",
        at_end(
            '\n\n@router.get("/opening-hours", include_in_schema=False)\n'
            "async def read_opening_hours(request: Request) -> HTMLResponse:\n"
            '    """When."""\n'
            '    return templates.TemplateResponse(request, "index.html", {})\n'
        ),
        "read_opening_hours",
    ),
]

EDITS_OF_MACHINERY = [
    Edit(
        "app/core/errors.py",
        both(
            instead("RETRY_AFTER_SECONDS = 5", "RETRY_AFTER_SECONDS = 7"),
            above("def setup_errors(", "# called_by_main\n"),
        ),
        "called_by_main",
        "kit/errors/_problems.py",
    ),
    Edit(
        "app/core/errors.py",
        both(
            above("from http import HTTPStatus\n", "from decimal import Decimal\n"),
            above("from app.core.request_context import", "from app.core.config import settings\n"),
            at_end(
                '\n\ndef fine_problem(fine: Decimal) -> str:\n    """Ours."""\n'
                '    return f"{settings.PROJECT_NAME} wants {fine}"\n'
            ),
        ),
        "def fine_problem",
        "kit/errors/_problems.py",
    ),
    Edit(
        "app/core/logging.py",
        instead("SHORTEST_MASKED_SECRET = 6", "SHORTEST_MASKED_SECRET = 5  # shorter"),
        "# shorter",
        "kit/process/_logging.py",
    ),
    Edit(
        "app/core/messages.py",
        at_end('\n\nLOANS = "library.loans"\n'),
        "library.loans",
        "kit/messages.py",
    ),
    Edit(
        "app/core/migrations/startup.py",
        above("def _judge(", "# be_strict\n"),
        "be_strict",
        "kit/migrations/_startup.py",
    ),
    Edit(
        "app/core/security/principals.py",
        above("class Principal", "# a_reader\n"),
        "a_reader",
        "kit/security/_principals.py",
    ),
    Edit(
        "app/commands/doctor.py",
        above("def main(", "# call_the_doctor\n"),
        "call_the_doctor",
        "kit/commands/doctor.py",
    ),
    Edit(
        "app/models/admin_user.py",
        above(
            "    last_login_at: datetime",
            '    desk: int = Field(default=1, sa_column_kwargs={"server_default": text("1")})\n',
        ),
        "    desk: int",
        "kit/models/_admin_user.py",
    ),
    Edit(
        "devservices/postgres.py",
        above("def _run(", "# be_patient\n"),
        "be_patient",
        "kit/devservices/_postgres.py",
    ),
    Edit(
        "templates/sqladmin/login.html",
        at_end("<!-- staff only -->\n"),
        "staff only",
        "kit/templates/sqladmin/login.html",
    ),
]

EXTENSION = "app/extensions/loyalty"
OWN_FILES = [
    Edit("app/models/library/__init__.py", own('"""The shelf_of_tables."""\n'), "shelf_of_tables"),
    Edit(
        "app/models/library/book.py",
        own(
            '"""Books."""\n\nfrom datetime import datetime\n\n'
            "from sqlmodel import Field, SQLModel\n\n"
            "from app.models.api_token import ApiToken\n\n\n"
            "class Book(SQLModel, table=True):\n"
            '    """A book."""\n\n'
            '    __tablename__ = "book"\n'
            "    id: int | None = Field(default=None, primary_key=True)\n"
            "    added_at: datetime | None = None\n\n\n"
            "TOKENS_OF_READERS = ApiToken\n"
        ),
        "TOKENS_OF_READERS",
    ),
    Edit(
        "app/api/desk.py",
        own(
            '"""The desk."""\n\nfrom http import HTTPStatus\n\nfrom fastapi import APIRouter\n\n'
            "from app.core.config import LOOPBACK_HOSTS, settings\n"
            "from app.core.dependencies import BranchDep, ReadSessionDep\n"
            "from app.core.errors import Problem\n"
            "from app.core.messages import publish\n"
            "from app.core.openapi_tags import APITag\n"
            "from app.core.security import require_principal\n"
            "from app.models.library.book import Book\n"
            "from .pages import router as pages_router\n"
            "from ..core import errors, redis_pool\n"
            "from ..core.settings_base import CommaSeparated\n\n"
            "router = APIRouter(tags=[APITag.BOOKS])\n\n"
            "OWN_DESK = (publish, require_principal, "
            "pages_router, CommaSeparated, LOOPBACK_HOSTS)\n\n\n"
            '@router.get("/desk/{number}")\n'
            "async def read_desk(session: ReadSessionDep, "
            "branch: BranchDep, number: int) -> Book:\n"
            '    """A book; see app.core.errors and app/core/errors.py."""\n'
            "    found = await session.get(Book, number)\n"
            "    if found is None:\n"
            '        raise Problem(HTTPStatus.NOT_FOUND, f"{settings.LOAN_DAYS} {branch}")\n'
            "    redis_pool.redis_client()\n"
            "    assert errors.problem_for\n"
            "    return found\n"
        ),
        "OWN_DESK",
    ),
    Edit(
        "app/api/v2/shelves.py",
        own(
            '"""Shelves."""\n\nfrom fastapi import APIRouter\n\n'
            "import app.core.errors\nfrom app.core import database, messages\n"
            "from ...core.celery import celery_app, enqueue\n\n"
            'router = APIRouter(prefix="/v2-shelves")\n'
            "SHELVES = (database.engine, database.ReadOnlySession, messages.publish, enqueue)\n\n\n"
            "def refuse() -> None:\n"
            '    """Refuse."""\n'
            '    raise app.core.errors.Problem(404, f"none of {celery_app.main}")\n'
        ),
        "SHELVES =",
    ),
    Edit(
        "app/core/opening_hours.py",
        own(
            '"""In core."""\n\nfrom .config import settings\nfrom .redis_pool import redis_client\n'
            "from . import logging as log\n\n"
            "HOURS = (settings, redis_client, log.configure_logging)\n"
        ),
        "HOURS =",
    ),
    Edit(
        "app/core/security/readers.py",
        own(
            '"""In security."""\n\nfrom app.core.security.principals import Principal\n'
            "from app.core.security import create_api_token\n\n"
            "READERS = (Principal, create_api_token)\n"
        ),
        "READERS =",
    ),
    Edit(
        "app/commands/inventory.py",
        own(
            '"""`python -m app.commands.inventory`"""\n\n'
            "from app.commands.session import command_session\n"
            "from app.core.logging import configure_logging\n"
            "from app.core.security.readers import READERS\n\n"
            'if __name__ == "__main__":\n    configure_logging()\n'
            '    print("count_books", command_session, READERS)\n'
        ),
        "count_books",
    ),
    Edit(
        "app/admin/widgets.py",
        own(
            '"""Widgets."""\n\nfrom .audit import admin_session_maker\n\n'
            "BOOK_WIDGETS = admin_session_maker\n"
        ),
        "BOOK_WIDGETS",
    ),
    Edit(
        "app/tasks/close_loans.py",
        own(
            '"""Loans."""\n\nfrom app.core.celery import celery_app\n'
            "from app.core.request_context import get_request_id\n"
            "from app.core.task_context import get_task_id\n\n\n"
            '@celery_app.task(name="app.tasks.close_loans")\n'
            "def close_loans() -> str:\n"
            '    """Close."""\n'
            "    return get_request_id() + get_task_id()\n"
        ),
        "def close_loans",
    ),
    Edit(f"{EXTENSION}/__init__.py", own('"""Loyalty_of_readers."""\n'), "Loyalty_of_readers"),
    Edit(
        f"{EXTENSION}/settings.py",
        own(
            '"""Settings."""\n\nfrom pydantic import Field\n'
            "from pydantic_settings import SettingsConfigDict\n\n"
            "from app.core.config import ServiceSettings\n"
            "from app.core.settings_base import CommaSeparated\n\n\n"
            "class LoyaltySettings(ServiceSettings):\n"
            '    """Ours."""\n\n'
            '    model_config = SettingsConfigDict(env_prefix="LOYALTY_")\n\n'
            '    NAMES: CommaSeparated = Field([], description="Names.")\n\n\n'
            "loyalty_settings = LoyaltySettings.load()\n"
        ),
        "loyalty_settings =",
    ),
    Edit(
        f"{EXTENSION}/models.py",
        own(
            '"""Tables."""\n\nfrom sqlmodel import Field, SQLModel\n\n\n'
            "class LoyaltyPoint(SQLModel, table=True):\n"
            '    """A point."""\n\n'
            '    __tablename__ = "loyalty_point"\n'
            "    id: int | None = Field(default=None, primary_key=True)\n"
        ),
        "class LoyaltyPoint",
    ),
    Edit(
        f"{EXTENSION}/api/__init__.py",
        own(
            '"""Loyalty."""\n\nfrom fastapi import APIRouter\n\n'
            "from app.core.errors import (\n    Problem,  # ours too\n    problem_for,\n)\n\n"
            "router = APIRouter()\nPOINT_ERRORS = (Problem, problem_for)\n"
        ),
        "POINT_ERRORS",
    ),
    Edit(
        f"{EXTENSION}/message_handlers.py",
        own(
            '"""Handlers."""\n\nfrom app.core.messages import Message, handles\n\n\n'
            '@handles("example.note-created")\n'
            "def count_points(message: Message) -> None:\n"
            '    """Count."""\n'
        ),
        "def count_points",
    ),
    Edit(
        f"{EXTENSION}/migrations/loyalty_0001_points.py",
        own(
            '"""Points."""\n\nimport sqlalchemy as sa\nfrom alembic import op\n\n'
            'revision = "loyalty_0001"\ndown_revision = None\nbranch_labels = ("loyalty",)\n'
            'depends_on = "core_0001"\n\n\n'
            "def upgrade() -> None:\n"
            '    op.create_table("loyalty_point", '
            'sa.Column("id", sa.Integer(), primary_key=True))\n'
            '    op.execute("ALTER TABLE loyalty_point ENABLE ROW LEVEL SECURITY")\n\n\n'
            'def downgrade() -> None:\n    op.drop_table("loyalty_point")\n'
        ),
        'revision = "loyalty_0001"',
    ),
    Edit(
        "alembic/versions/3f2a91c0aaaa_books.py",
        own(
            '"""Books."""\n\nimport sqlalchemy as sa\nfrom alembic import op\n\n'
            'revision = "3f2a91c0aaaa"\ndown_revision = None\nbranch_labels = ("service",)\n'
            'depends_on = "core_0001"\n\n\n'
            "def upgrade() -> None:\n"
            '    op.create_table(\n        "book",\n'
            '        sa.Column("id", sa.Integer(), primary_key=True),\n'
            '        sa.Column("added_at", sa.DateTime()),\n    )\n'
            '    op.execute("ALTER TABLE book ENABLE ROW LEVEL SECURITY")\n\n\n'
            'def downgrade() -> None:\n    op.drop_table("book")\n'
        ),
        'revision = "3f2a91c0aaaa"',
    ),
]

EDITS_OF_TESTS = [
    Edit(
        "tests/conftest.py",
        at_end(
            '\n\n@pytest.fixture\ndef book() -> str:\n    """Ours."""\n    return "Middlemarch"\n'
        ),
        "Middlemarch",
    ),
    Edit(
        "tests/test_desk.py",
        own(
            "import pytest\n\nfrom app.core import errors\nfrom app.core.config import settings\n"
            "from app.core.errors import Problem\n"
            "from tests.changed_settings import change_settings\n\n\n"
            "def test_desk(monkeypatch: pytest.MonkeyPatch, book: str) -> None:\n"
            '    monkeypatch.setattr("app.core.errors.problem_for", lambda _: None)\n'
            "    change_settings(monkeypatch, LOAN_DAYS=21)\n"
            "    assert errors.problem_for(ValueError()) is None\n"
            "    assert settings.LOAN_DAYS == 21\n"
            '    assert Problem(404, "x").status_code == 404\n'
            '    assert book == "Middle" + "march"\n'
        ),
        "def test_desk",
    ),
    Edit(
        "tests/core/test_opening_hours.py",
        own(
            "from app.core.opening_hours import HOURS\nfrom tests import queue_tasks\n\n\n"
            "def test_hours() -> None:\n    assert HOURS, queue_tasks\n"
        ),
        "def test_hours",
    ),
    Edit(
        "tests/core/test_errors.py",
        at_end("\n\ndef test_of_ours_among_the_kits() -> None:\n    assert True\n"),
        "test_of_ours_among_the_kits",
    ),
]

EDITS_OF_TEXTS = [
    Edit(
        "Makefile",
        both(
            instead("lint format typecheck", "lint inventory format typecheck"),
            at_end(
                "\n# Counts what is there.\nshelves ?= 12\n\n"
                "inventory: $(own_uv) ## count the books\n"
                "\t@$(run) python -m app.commands.inventory $(shelves)\n"
                "\t@$(run) python -m app.commands.doctor\n"
            ),
        ),
        "## count the books",
    ),
    Edit(
        "Makefile",
        instead("$(run) ruff check .\n", "$(run) ruff check . --no-cache\n"),
        "--no-cache",
        "kit/kit.mk",
    ),
    Edit(
        "pyproject.toml",
        above('    "sqlmodel', '    "stamina>=25", # tries again\n'),
        '"stamina>=25", # tries again',
    ),
    Edit(
        "pyproject.toml",
        above('    "pytest>=', '    "respx>=0.22",\n'),
        "respx>=0.22",
    ),
    Edit(
        "docker-compose.yml",
        above(
            "  flower:\n",
            "  mails:\n    <<: *service\n"
            '    command: [celery, --app, "app.core.celery:celery_app", worker, --queues, mails]\n'
            "    healthcheck:\n      test: [CMD, python, -m, app.commands.alive, worker]\n\n",
        ),
        "--queues, mails",
    ),
    Edit(
        ".github/workflows/ci.yml",
        at_end("      - run: uv run mypy app devservices # in_ci\n"),
        "in_ci",
    ),
    Edit(
        ".github/workflows/nightly.yml",
        own(
            "name: nightly_check\non: push\n"
            "jobs:\n  check:\n    runs-on: ubuntu-latest\n    steps:\n"
            "      - run: uv run python -m app.commands.doctor\n"
        ),
        "nightly_check",
    ),
    Edit("Dockerfile", below("COPY . .\n", "# everything_else\n"), "everything_else"),
    Edit(
        "README.md",
        at_end("\nDesk_notes: `python -m app.commands.doctor`, then `app/core/errors.py`.\n"),
        "Desk_notes",
    ),
    Edit("AGENTS.md", at_end("\nThe librarian reads `app/core/errors.py`.\n"), "librarian"),
    Edit(
        ".env.example",
        at_end("\n# --- Loans ---\n\n# Days of a loan.\n#LOAN_DAYS=14\n"),
        "LOAN_DAYS",
    ),
    Edit("static/css/style.css", at_end("\n.shelf { color: red }\n"), ".shelf"),
    Edit("templates/base.html", at_end("<!-- reading room -->\n"), "reading room"),
    Edit(".gitignore", at_end("catalogue_dump\n"), "catalogue_dump"),
]

EDITS = [
    *EDITS_OF_SETTINGS,
    *EDITS_OF_SHORT_FILES,
    *EDITS_OF_MACHINERY,
    *OWN_FILES,
    *EDITS_OF_TESTS,
    *EDITS_OF_TEXTS,
]
"""All of them; each applies to every release before 0.5.0."""
