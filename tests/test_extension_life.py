"""An extension in a service that is in use: chosen, changed by its owner and by a release, left.

Followed with the commands that its user has, on the embedded database with rows in it.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import copy_template
from tests.later_releases import take_deposits
from tests.repositories import REPOSITORY, commit_all, git
from tests.service import Service, open_folder
from tests.test_extensions import workshop
from tests.test_update import release, update
from tests.trees import Workshop

__all__ = ["workshop"]

pytestmark = [
    pytest.mark.full,
    pytest.mark.usefixtures("fast_copier"),
    pytest.mark.xdist_group("extensions"),
]

SHOP = '''\
"""Shops."""

from sqlmodel import Field, SQLModel


class Shop(SQLModel, table=True):
    """A shop."""

    __tablename__ = "shop"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=50)
'''

# In a project of any release.
START = """
from sqlalchemy import text
try:
    from kit.process import start_local_services
except ModuleNotFoundError:  # before 0.5.0
    from app.core.local_services import start_local_services
start_local_services()
from app.core.database import sync_engine
"""

ADD_ROWS = f"""{START}
with sync_engine.begin() as connection:
    for statement in {{statements!r}}:
        connection.execute(text(statement))
"""

ASK = f"""{START}
import json
with sync_engine.connect() as connection:
    rows = connection.execute(text({{query!r}})).all()
print(json.dumps([list(row) for row in rows]))
"""

TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"


class LivingService(Service):
    """A service whose database answers questions."""

    def execute(self, *statements: str) -> None:
        """Change what its database holds."""
        self.run(*self.python, "-c", ADD_ROWS.format(statements=list(statements)))

    def rows(self, query: str) -> list[list[object]]:
        """What a query gives."""
        output = self.run(*self.python, "-c", ASK.format(query=query))
        found: list[list[object]] = json.loads(output.splitlines()[-1])
        return found

    def tables(self) -> set[str]:
        """Names of its tables."""
        return {str(name) for [name] in self.rows(TABLES)}

    def try_make(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run make, whatever comes of it, with nobody to answer a question."""
        return subprocess.run(
            ["make", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )

    @property
    def python(self) -> tuple[str, ...]:
        """The environment's interpreter."""
        return (str(Path(self.environment["UV_PROJECT_ENVIRONMENT"]) / "bin" / "python"),)


@pytest.fixture
def releases(template: Path, tmp_path: Path) -> Path:
    """A template whose next release the test writes."""
    folder = tmp_path / "releases"
    git(tmp_path, "clone", "--quiet", str(template), str(folder))
    return folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the service lies, with its database."""
    with open_folder() as path:
        yield path


@pytest.fixture
def service(releases: Path, folder: Path, workshop: Workshop) -> LivingService:
    """A service in use: a table of its own with a row, and no extension yet."""
    project = copy_template(releases, folder / "project")
    commit_all(project, "Start")
    prepared = workshop.service_of(project)
    service = LivingService(project, prepared.environment)
    (project / "app/models/shop.py").write_text(SHOP, encoding="utf-8")
    service.make("db-upgrade")
    service.make("db-migrate", "message=add shops")
    service.make("db-upgrade")
    service.execute("INSERT INTO shop (name) VALUES ('ours')")
    commit_all(project, "Shops")
    return service


def choose(service: LivingService, *extensions: str) -> None:
    """What `copier update --data extensions=…` does, committed."""
    update(service.folder, extensions=list(extensions))
    assert git(service.folder, "diff", "--name-only", "--diff-filter=U") == ""
    commit_all(service.folder, f"With {', '.join(extensions) or 'no extension'}")


def heads(service: LivingService) -> list[str]:
    """Branches of the newest revisions that the database has."""
    return sorted(str(row) for [row] in service.rows("SELECT version_num FROM alembic_version"))


def test_its_tables_come_with_an_upgrade_and_go_with_a_downgrade(service: LivingService) -> None:
    before = service.tables()

    choose(service, "hotel")
    assert service.tables() == before, "an update touches no database"
    service.make("db-upgrade")

    hotel = {"hotel_room", "hotel_guest", "hotel_booking"}
    assert service.tables() == before | hotel
    service.execute("INSERT INTO hotel_room (name, beds) VALUES ('12', 2)")
    service.make("db-downgrade", "extension=hotel")
    assert service.tables() == before
    assert service.rows("SELECT name FROM shop") == [["ours"]]
    service.make("db-upgrade")
    assert service.tables() == before | hotel


def add_column(path: Path, line: str) -> None:
    """Add a field to the hotel's rooms."""
    text = path.read_text(encoding="utf-8")
    anchor = '    __table_args__ = (UniqueConstraint("name"),)\n\n    id: int'
    assert anchor in text
    path.write_text(
        text.replace(
            anchor, f'    __table_args__ = (UniqueConstraint("name"),)\n\n{line}\n    id: int', 1
        ),
        encoding="utf-8",
    )


def release_that_adds_a_column(releases: Path) -> None:
    """The next release: bookings have a deposit."""
    take_deposits(releases)
    release(releases, "v0.2.0")


def test_its_owner_s_column_and_a_release_s_column_meet_on_a_database_with_rows(
    releases: Path, service: LivingService
) -> None:
    choose(service, "hotel")
    service.make("db-upgrade")
    service.execute("INSERT INTO hotel_room (name, beds) VALUES ('12', 2)")

    add_column(
        service.folder / "app/extensions/hotel/models.py",
        "    view: str | None = Field(default=None, max_length=50)",
    )
    service.make("db-migrate", "message=views of rooms")
    service.make("db-upgrade")

    own = sorted(path.name for path in (service.folder / "alembic/versions").glob("*.py"))
    assert len(own) == 2, "the column of an extension's table lands in the user's branch"
    assert not list((service.folder / "app/extensions/hotel/migrations").glob("*views*"))
    commit_all(service.folder, "Views")

    release_that_adds_a_column(releases)
    choose(service, "hotel")
    service.make("db-upgrade")

    columns = service.rows(
        "SELECT table_name || '.' || column_name FROM information_schema.columns "
        "WHERE column_name IN ('view', 'deposit') ORDER BY 1"
    )
    assert columns == [["hotel_booking.deposit"], ["hotel_room.view"]]
    assert service.rows("SELECT name, view FROM hotel_room") == [["12", None]]
    assert service.rows("SELECT name FROM shop") == [["ours"]]
    service.run(*service.python, "-m", "alembic", "check")
    branches = {re.split(r"_\d", head)[0] for head in heads(service) if "_0" in head}
    assert len(branches) == len([head for head in heads(service) if "_0" in head])


def test_one_that_left_with_its_tables_there_breaks_nothing(service: LivingService) -> None:
    use_hotel(service)
    leave_hotel(service)

    for command in ("db-status", "db-upgrade", "doctor"):
        told(service, command, "db-forget extension=hotel")
    start = service.run(*service.python, "-m", "kit.commands.serve", "--check")
    assert "db-forget extension=hotel" in start
    assert "Traceback" not in start
    assert service.rows("SELECT name FROM hotel_room") == [["12"]]

    service.make("db-forget", "extension=hotel")
    check_all_is_well_without_it(service)


def test_one_that_left_while_an_own_revision_needs_it_is_named_with_the_ways_out(
    service: LivingService,
) -> None:
    use_hotel(service)
    view = "    view: str | None = Field(default=None, max_length=50)"
    add_column(service.folder / "app/extensions/hotel/models.py", view)
    service.make("db-migrate", "message=views of rooms")
    service.make("db-upgrade")
    commit_all(service.folder, "Views")
    [revision] = (service.folder / "alembic/versions").glob("*_views_of_rooms.py")
    leave_hotel(service)

    for command in ("db-status", "db-upgrade", "doctor"):
        told(service, command, "restore its folder", "from depends_on", revision.name)

    forget_the_hotel(revision)
    check_all_is_well_without_it(service)


def use_hotel(service: LivingService) -> None:
    """Choose the hotel, and have a room."""
    choose(service, "hotel")
    service.make("db-upgrade")
    service.execute("INSERT INTO hotel_room (name, beds) VALUES ('12', 2)")


def leave_hotel(service: LivingService) -> None:
    """Take it out by an update, without a downgrade before."""
    update(service.folder, extensions=[])
    # What its owner had edited there stays behind otherwise.
    shutil.rmtree(service.folder / "app/extensions/hotel", ignore_errors=True)
    commit_all(service.folder, "Without the hotel")


def told(service: LivingService, command: str, *words: str) -> None:
    """A command names the extension and the ways out, in its own words."""
    done = service.try_make(command)
    assert "hotel" in done.stdout, done.stdout
    assert all(word in done.stdout for word in words), done.stdout
    assert "Traceback" not in done.stdout, done.stdout


def forget_the_hotel(revision: Path) -> None:
    """Do what the message says: remove it from depends_on, upgrade() and downgrade()."""
    text = revision.read_text(encoding="utf-8")
    text = re.sub(r"^depends_on.*$", "depends_on = None", text, flags=re.MULTILINE)
    text = re.sub(r"^    op\..*(\n        .*|\n    \))*$", "    pass", text, flags=re.MULTILINE)
    revision.write_text(text, encoding="utf-8")


def check_all_is_well_without_it(service: LivingService) -> None:
    """Every command works, nothing speaks of it, and no row is lost."""
    for command in ("db-upgrade", "db-status"):
        done = service.try_make(command)
        assert done.returncode == 0, done.stdout
        assert "hotel" not in done.stdout, done.stdout
    assert service.rows("SELECT name FROM hotel_room") == [["12"]]
    assert service.rows("SELECT name FROM shop") == [["ours"]]


def test_a_booking_crosses_to_mail_and_webhooks(
    template: Path, folder: Path, workshop: Workshop
) -> None:
    chosen = ["hotel", "mail", "webhooks"]
    project = copy_template(template, folder / "crossing", extensions=chosen)
    test = REPOSITORY / "tests" / "in_project" / "booking_crosses.py"
    shutil.copy2(test, project / "tests" / "test_booking_crosses.py")
    service = workshop.service_of(project)
    pytest_ = str(workshop.everything.folder / ".venv" / "bin" / "pytest")
    service.run(pytest_, "-q", "tests/test_booking_crosses.py")
