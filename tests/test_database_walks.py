"""Whatever is done to a service and its database, in whatever order, loses no row unasked.

Real commands of the service on its embedded PostgreSQL. How far the walks go, and how to have
longer ones, is what `tests/test_walks.py` says of its own.
"""

import json
import re
import subprocess
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from copier import run_update
from hypothesis import find, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.conftest import copy_template
from tests.installed_servers import with_us
from tests.later_releases import FIRST, SECOND, clone_with_later_releases
from tests.repositories import commit_all, git
from tests.service import Service, open_folder
from tests.test_extensions import workshop
from tests.trees import Workshop

__all__ = ["workshop"]

EXTENSIONS = ("hotel", "mail", "webhooks")
OWN_EXTENSION = "loyalty"
ALWAYS = {"alembic_version"}

CONSOLE = """
import json, sys
from sqlalchemy import text
from kit.process import start_local_services
start_local_services()
from app.core.database import sync_engine
for line in sys.stdin:
    with sync_engine.begin() as connection:
        result = connection.execute(text(json.loads(line)))
        rows = [list(row) for row in result] if result.returns_rows else []
    print(json.dumps(rows), flush=True)
"""

MODEL = '''\
"""{name}."""

from sqlmodel import Field, SQLModel


class {title}(SQLModel, table=True):
    """One of {name}."""

    __tablename__ = "{name}"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=50)
'''


class Console:
    """A process of the service that holds its embedded servers and asks its database."""

    def __init__(self, service: Service, python: str) -> None:
        """It ends with `close`, and with us."""
        self._process = subprocess.Popen(
            [*with_us("TERM"), python, "-c", CONSOLE],
            cwd=service.folder,
            env=service.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, statement: str) -> list[list[object]]:
        """What a statement gives, committed."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(statement) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the console has ended: {statement}"
        rows: list[list[object]] = json.loads(answer)
        return rows

    def close(self) -> None:
        """End it, and with it the servers that nobody else holds."""
        self._process.communicate(timeout=30)


class DatabaseWalk(RuleBasedStateMachine):
    """One service with its database, and beside it what that is expected to hold."""

    def __init__(self, releases: Path, folder: Path, workshop: Workshop) -> None:
        """Of these releases, in a new folder below this one, in the environment of a workshop."""
        super().__init__()
        self.releases = releases
        self.workshop = workshop
        self.project = folder / f"walk{len(list(folder.iterdir()))}"
        self.release = FIRST
        self.chosen: list[str] = []
        self.own: list[list[str]] = []
        """The owner's tables, those together that two people added beside each other."""
        self.own_applied = 0
        self.applied: dict[str, set[str]] = {}
        self.forgotten: set[str] = set()
        self.rows: Counter[str] = Counter()
        self.written = 0
        self.is_up_to_date = False
        self.has_comment = True
        self.is_known_as_local = True

    @initialize(chosen=st.lists(st.sampled_from(EXTENSIONS), unique=True, max_size=2))
    def start(self, chosen: list[str]) -> None:
        """A service of the first release whose database is up to date."""
        self.chosen = sorted(chosen)
        copy_template(self.releases, self.project, release=FIRST, extensions=self.chosen)
        commit_all(self.project, "Start")
        self.service = self.workshop.service_of(self.project)
        environment = self.service.environment["UV_PROJECT_ENVIRONMENT"]
        self.console = Console(self.service, f"{environment}/bin/python")
        self.upgrade()

    def teardown(self) -> None:
        if hasattr(self, "console"):
            self.console.close()

    # --- Work of the owner ---

    @precondition(lambda self: self.tables_with_names())
    @rule(data=st.data())
    def add_a_row(self, data: st.DataObject) -> None:
        """To a table of the owner's own, or of an extension."""
        table = data.draw(st.sampled_from(self.tables_with_names()))
        self.written += 1
        name = f"'row {self.written}'"
        columns, values = ("name, beds", f"{name}, 2") if table == "hotel_room" else ("name", name)
        self.console.ask(f"INSERT INTO {table} ({columns}) VALUES ({values})")  # noqa: S608
        self.rows[table] += 1

    @rule()
    def add_a_table(self) -> None:
        """A model and its migration, not applied yet."""
        self.own.append([self.write_a_table(0)])
        commit_all(self.project, "Add a table")

    @precondition(lambda self: self.own)
    @rule()
    def two_people_add_a_table_each(self) -> None:
        """Which makes two heads; they are named, and merged with the command."""
        files = [[self.model(self.write_a_table(0)), self.own_revisions()[-1]]]
        texts = [path.read_text("utf-8") for path in files[0]]
        for path in files[0]:
            path.unlink()
        names = [files[0][0].stem, self.write_a_table(1)]
        for path, content in zip(files[0], texts, strict=True):
            path.write_text(content, "utf-8")
        assert "`make db-merge`" in self.service.make("db-status")
        self.service.make("db-merge")
        self.own.append(names)
        commit_all(self.project, "Merge")

    def write_a_table(self, suffix: int) -> str:
        name = f"ours_{len(self.own)}_{suffix}"
        content = MODEL.format(name=name, title=name.title().replace("_", ""))
        self.model(name).write_text(content, "utf-8")
        self.service.make("db-migrate", f"message=add {name}")
        self.is_up_to_date = False
        return name

    def model(self, name: str) -> Path:
        return self.project / "app" / "models" / f"{name}.py"

    @precondition(lambda self: not (self.project / "app/extensions" / OWN_EXTENSION).exists())
    @rule()
    def begin_an_extension(self) -> None:
        """With `make extension`; its table is not made yet."""
        self.service.make("extension", f"name={OWN_EXTENSION}")
        commit_all(self.project, "Begin an extension")
        self.is_up_to_date = False

    # --- Migrations ---

    @precondition(lambda self: not self.orphans())
    @rule()
    def upgrade(self) -> None:
        """Applies everything; an extension that was forgotten goes on with its tables."""
        self.service.make("db-upgrade")
        for branch in self.present():
            self.applied[branch] = self.created_by(branch)
            self.forgotten -= self.applied[branch]
        self.own_applied = len(self.own)
        self.is_up_to_date = self.has_comment = True
        self.check_status()

    @precondition(lambda self: self.is_up_to_date and not self.orphans())
    @rule()
    def stamp(self) -> None:
        """Changes nothing where everything is applied."""
        self.service.make("db-stamp", "to=heads")
        self.has_comment = True
        self.check_status()

    @rule()
    def restore_without_comments(self) -> None:
        """As a dump with `--no-comments` would leave it."""
        self.console.ask("COMMENT ON TABLE alembic_version IS NULL")
        self.has_comment = self.is_known_as_local = False

    @rule()
    def reset_without_an_answer(self) -> None:
        """Is refused; where nothing says whose database it is, it asks for the host, too."""
        said = self.service.run("sh", "-c", "make db-reset </dev/null", status=2)
        assert "nothing was changed" in said
        assert ("says whether it is production's" in said) == (not self.is_known_as_local)

    @precondition(lambda self: self.applied_extensions() and not self.orphans())
    @rule(data=st.data())
    def take_an_extension_s_tables_back(self, data: st.DataObject) -> None:
        """`make db-downgrade extension=…`: its tables go, with their rows, and no others."""
        name = data.draw(st.sampled_from(self.applied_extensions()))
        self.service.make("db-downgrade", f"extension={name}")
        for table in self.applied.pop(name):
            del self.rows[table]
        self.is_up_to_date, self.has_comment = False, True
        self.check_status()

    @precondition(lambda self: self.own_applied and not self.orphans())
    @rule()
    def take_a_table_back(self) -> None:
        """The newest of the owner's own; two that were merged by the command that is printed."""
        self.own_applied -= 1
        tables = self.own[self.own_applied]
        if len(tables) == 1:
            self.service.make("db-downgrade")
        else:
            said = self.service.make("db-downgrade", status=2)
            [command] = re.findall(r"`make (db-downgrade to=\S+)`", said)
            self.service.make(*command.split())
        for table in tables:
            del self.rows[table]
        self.is_up_to_date, self.has_comment = False, True
        self.check_status()

    @precondition(lambda self: self.applied and not self.orphans())
    @rule()
    def take_everything_back(self) -> None:
        """But the tables of a forgotten extension."""
        self.service.make("db-downgrade", "to=core@base", status=2)
        self.service.make("db-downgrade", "to=core@base", "yes=1")
        self.applied, self.own_applied = {}, 0
        self.rows = Counter({name: self.rows[name] for name in self.rows if name in self.forgotten})
        self.is_up_to_date, self.has_comment = False, True
        self.check_status()

    @precondition(lambda self: self.orphans())
    @rule(command=st.sampled_from([("upgrade", "heads"), ("downgrade", "core@base")]))
    def migrate_with_tables_of_what_left(self, command: tuple[str, str]) -> None:
        """Is refused, and says what to do about each of them."""
        said = self.service.run("uv", "run", "alembic", *command, status=1)
        assert "Traceback" not in said
        assert {name for name in self.orphans() if f"extension={name}`" in said} == self.orphans()
        self.check_status()

    @precondition(lambda self: self.orphans())
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        """An extension that left its tables: they stay."""
        name = data.draw(st.sampled_from(sorted(self.orphans())))
        if not (self.has_comment or self.is_up_to_date):
            # Which other revisions its row stood for, nothing says.
            said = self.service.make("db-forget", f"extension={name}", status=2)
            assert "make db-stamp" in said
            return
        self.service.make("db-forget", f"extension={name}")
        self.has_comment = True
        self.forgotten |= self.applied.pop(name)
        self.check_status()

    # --- Copier ---

    @rule(name=st.sampled_from(EXTENSIONS))
    def choose_or_give_back(self, name: str) -> None:
        """Files come and go, and the database stays as it is."""
        if name in self.chosen:
            chosen = [each for each in self.chosen if each != name]
        else:
            chosen = sorted([*self.chosen, name])
            self.is_up_to_date = self.is_up_to_date and name in self.applied
        update(self.project, release=self.release, extensions=chosen)
        self.chosen = chosen

    @precondition(lambda self: self.release == FIRST)
    @rule()
    def update_to_the_next_release(self) -> None:
        """Which has a migration for an extension; nothing is applied unasked."""
        update(self.project, release=SECOND, extensions=self.chosen)
        self.release = SECOND
        self.is_up_to_date = False

    # --- What holds after each step ---

    @invariant()
    def has_the_tables_of_what_is_applied(self) -> None:
        """No more and no fewer."""
        expected = {*ALWAYS, *self.forgotten, *self.own_tables()}
        expected |= {table for tables in self.applied.values() for table in tables}
        query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        assert {str(table) for [table] in self.console.ask(query)} == expected

    @invariant()
    def has_every_row(self) -> None:
        """That was not taken back with its table."""
        found = {
            table: self.console.ask(f"SELECT count(*) FROM {table}")[0][0]  # noqa: S608
            for table in self.rows
        }
        assert found == dict(self.rows)

    # --- Helpers ---

    def present(self) -> list[str]:
        """Branches but for the service's own, in no order."""
        is_there = (self.project / "app/extensions" / OWN_EXTENSION).exists()
        return ["core", *self.chosen, *([OWN_EXTENSION] if is_there else [])]

    def applied_extensions(self) -> list[str]:
        return sorted(set(self.applied) & set(self.present()) - {"core"})

    def orphans(self) -> set[str]:
        return set(self.applied) - set(self.present())

    def own_revisions(self) -> list[Path]:
        """The newest last."""
        paths = (self.project / "alembic" / "versions").glob("*.py")
        return sorted(paths, key=lambda path: path.stat().st_mtime_ns)

    def own_tables(self) -> list[str]:
        return [name for names in self.own[: self.own_applied] for name in names]

    def tables_with_names(self) -> list[str]:
        there = {*self.forgotten, *self.applied.get("hotel", ())}
        return [*self.own_tables(), *(["hotel_room"] if "hotel_room" in there else [])]

    def created_by(self, branch: str) -> set[str]:
        """Tables of a branch, as its revisions spell them."""
        is_kit = branch == "core"
        folder = self.project / ("kit/migrations" if is_kit else f"app/extensions/{branch}")
        texts = [path.read_text("utf-8") for path in folder.rglob("*.py")]
        return {name for text in texts for name in re.findall(r'create_table\(\s*"(\w+)"', text)}

    def check_status(self) -> None:
        """`make db-status` has one head a branch, and names what is missing and what was left."""
        said = self.service.make("db-status")
        heads = re.findall(r"^(applied|missing) +(\S+) +\w+: ", said, re.MULTILINE)
        branches = [branch for _, branch in heads]
        assert sorted(branches) == sorted([*self.present(), *(["service"] if self.own else [])])
        is_applied = {branch for mark, branch in heads if mark == "applied"}
        assert is_applied - {"service"} <= set(self.applied)
        assert ("service" in is_applied) == bool(self.own and self.own_applied == len(self.own))
        assert {name for name in self.orphans() if f"extension={name}`" in said} == self.orphans()


def update(project: Path, *, release: str, extensions: list[str]) -> None:
    """Update, and commit what came: no conflict, whatever the owner has done."""
    run_update(
        project,
        data={"extensions": extensions},
        vcs_ref=release,
        defaults=True,
        overwrite=True,
        quiet=True,
    )
    assert git(project, "diff", "--name-only", "--diff-filter=U") == ""
    commit_all(project, "Update")


class First:
    """Takes the first choice, for a walk that is written down."""

    def draw(self, choices: st.SearchStrategy[str]) -> str:
        return find(choices, lambda _: True)


@pytest.mark.full
@pytest.mark.xdist_group("extensions")
@pytest.mark.usefixtures("fast_copier")
def test_forgetting_choosing_again_and_merging_keep_every_row(
    template: Path, workshop: Workshop, tmp_path: Path
) -> None:
    """A walk that a random one seldom takes."""
    releases = clone_with_later_releases(template, tmp_path / "releases")
    first: Any = First()
    with open_folder() as folder:
        walk = DatabaseWalk(releases, folder, workshop)
        steps: list[Any] = [
            partial(walk.start, chosen=["hotel", "mail"]),
            partial(walk.add_a_row, data=first),
            walk.add_a_table,
            walk.two_people_add_a_table_each,
            walk.add_a_table,
            walk.upgrade,
            walk.take_a_table_back,
            walk.take_a_table_back,
            walk.upgrade,
            partial(walk.choose_or_give_back, name="hotel"),
            partial(walk.choose_or_give_back, name="mail"),
            walk.restore_without_comments,
            walk.reset_without_an_answer,
            partial(walk.forget, data=first),
            partial(walk.forget, data=first),
            walk.update_to_the_next_release,
            partial(walk.choose_or_give_back, name="hotel"),
            walk.upgrade,
            walk.stamp,
            walk.reset_without_an_answer,
        ]
        try:
            for step in steps:
                step()
                walk.has_the_tables_of_what_is_applied()
                walk.has_every_row()
        finally:
            walk.teardown()


@pytest.mark.full
@pytest.mark.xdist_group("extensions")
@pytest.mark.usefixtures("fast_copier")
def test_any_order_of_steps_keeps_every_row(
    template: Path, workshop: Workshop, tmp_path: Path
) -> None:
    releases = clone_with_later_releases(template, tmp_path / "releases")
    with open_folder() as folder:
        run_state_machine_as_test(
            partial(DatabaseWalk, releases, folder, workshop),  # type: ignore[arg-type]
            settings=settings(max_examples=max(1, settings().max_examples // 2)),
        )
