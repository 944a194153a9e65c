"""Revisions that leave their transaction, as Alembic documents it, with each command."""

import shutil
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import column, select, table

from app.core.config import BASE_DIR, StartupError
from kit.database import connect
from kit.migrations._branches import ALEMBIC_DIR, CORE, version_location
from kit.migrations._upgrade import upgrade_to_heads
from kit.testing._databases import environment_for, run_module
from kit.tests.migrations.test_concurrency import start_upgrade

pytestmark = pytest.mark.slow

MODELS = """
from sqlmodel import Field, SQLModel


class ProbeFirst(SQLModel, table=True):
    __tablename__ = "probe_first"
    number: int = Field(primary_key=True)


class ProbeMiddle(SQLModel, table=True):
    __tablename__ = "probe_middle"
    number: int = Field(primary_key=True)


class ProbeLast(SQLModel, table=True):
    __tablename__ = "probe_last"
    number: int = Field(primary_key=True)
"""
NAMES = ["first", "middle", "last"]
REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "probe_{name}"
down_revision = {before}
branch_labels = {labels}
depends_on = None


def upgrade() -> None:
    op.create_table(
        "probe_{name}",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_probe_{name}")),
    )
    op.execute("ALTER TABLE probe_{name} ENABLE ROW LEVEL SECURITY")
{leaving}

def downgrade() -> None:
    op.drop_table("probe_{name}")
"""
LEAVING = '''
    with op.get_context().autocommit_block():
        op.execute("VACUUM probe_{name}")
        op.execute("""{then}""")
    op.execute("INSERT INTO probe_{name} VALUES (1)")
'''
"""VACUUM fails in a transaction."""
UNTIL_ANOTHER_WAITS = """
DO $$ BEGIN
    WHILE NOT EXISTS (
        SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
        WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()
    ) LOOP PERFORM pg_sleep(0.02); END LOOP;
END $$
"""


def write_project(folder: Path, leaving: str, then: str = "SELECT 1") -> Path:
    """A copy of the project with three more revisions, one of which leaves its transaction."""
    for part in ("app", "alembic", "kit", "static", "templates"):
        shutil.copytree(
            BASE_DIR / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "tests")
        )
    for file in ("alembic.ini", "pyproject.toml"):
        shutil.copy(BASE_DIR / file, folder)
    (folder / "app/models/probes.py").write_text(MODELS)
    for revision in (folder / "alembic/versions").glob("*.py"):
        revision.unlink()
    for before, name in zip([None, *NAMES], NAMES, strict=False):
        block = LEAVING.format(name=name, then=then) if name == leaving else ""
        (folder / f"alembic/versions/{name}.py").write_text(
            REVISION.format(
                name=name,
                before=before and f'"probe_{before}"',
                labels=None if before else '("service",)',
                leaving=block,
            )
        )
    return folder


@pytest.mark.parametrize("leaving", NAMES)
async def test_each_command_runs_them(tmp_path: Path, fresh_database: str, leaving: str) -> None:
    project, probe = write_project(tmp_path, leaving), f"probe_{leaving}"

    def run(*arguments: str, answer: str = "") -> str:
        outcome = run_module(fresh_database, *arguments, project=project, answer=answer)
        assert outcome.status == 0, outcome.output
        return outcome.output

    run("kit.commands.serve", "--check")  # migrates an empty database
    run("kit.commands.db", "reset", answer=fresh_database)
    assert "No new upgrade operations detected" in run("alembic", "check")
    assert "no revision is needed" in run("alembic", "revision", "--autogenerate", "-m", "none")
    run("alembic", "-x", "yes", "downgrade", "service@base")
    run("alembic", "upgrade", "heads")
    async with connect() as connection:
        assert await connection.scalar(select(column("number")).select_from(table(probe))) == 1

    sql = run("alembic", "upgrade", "heads", "--sql")
    before, vacuum, after = sql.partition(f"VACUUM {probe}")
    assert vacuum
    assert before.rstrip().endswith("COMMIT;")
    assert "BEGIN;" in after


async def test_two_upgrades_take_turns_all_the_same(tmp_path: Path, fresh_database: str) -> None:
    """The second waits while the first is outside of its transaction."""
    project = write_project(tmp_path, "first", UNTIL_ANOTHER_WAITS)
    environment = environment_for(fresh_database)
    first, second = [await start_upgrade(environment, project) for _ in range(2)]

    outcomes = [(await each.communicate())[0].decode() for each in (first, second)]

    assert [first.returncode, second.returncode] == [0, 0], outcomes
    assert sorted("Running upgrade" in output for output in outcomes) == [False, True]


async def test_a_caller_s_transaction_is_not_left(tmp_path: Path, fresh_database: str) -> None:
    project = write_project(tmp_path, "middle")
    folders = [version_location(CORE), project / "alembic" / "versions"]
    script = ScriptDirectory(ALEMBIC_DIR, version_locations=folders)

    async with connect() as connection, connection.begin():
        with pytest.raises(StartupError, match="probe_middle leaves its transaction"):
            await connection.run_sync(upgrade_to_heads, script)
