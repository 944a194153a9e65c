import logging

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text

from app.core.config import StartupError
from kit.commands import db
from kit.database import connect
from kit.migrations import init_db
from kit.migrations._branches import (
    ALEMBIC_DIR,
    CORE,
    load_metadata,
    read_note,
    read_state,
    script_directory,
    version_location,
    write_note,
)
from kit.migrations._upgrade import upgrade_to_heads
from kit.testing import change_settings
from kit.testing._databases import alembic


async def replace_rows(revision: str) -> None:
    """Have `alembic_version` hold this revision alone."""
    async with connect() as connection, connection.begin():
        await connection.execute(text("DELETE FROM alembic_version"))
        insert = text("INSERT INTO alembic_version VALUES (:revision)")
        await connection.execute(insert, {"revision": revision})


class TestEmptyDatabase:
    @pytest.mark.slow
    async def test_a_developers_gets_its_tables_and_the_next_upgrade_works(
        self, fresh_database: str
    ) -> None:
        await init_db()

        async with connect() as connection:
            state = await connection.run_sync(read_state, script_directory(), load_metadata())
        assert state.has_tables
        assert not state.missing
        upgrade = alembic(fresh_database, "upgrade", "heads")
        assert upgrade.status == 0, upgrade.output
        assert "Running upgrade" not in upgrade.output

    async def test_another_one_is_refused_with_the_command(
        self, fresh_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_settings(monkeypatch, ENVIRONMENT="production")

        with pytest.raises(StartupError, match=r"no tables yet. Run `alembic upgrade heads`"):
            await init_db()
        async with connect() as connection:
            state = await connection.run_sync(read_state, script_directory(), load_metadata())
        assert state.is_empty

    async def test_tables_without_a_note_of_migrations_are_refused(
        self, fresh_database: str
    ) -> None:
        async with connect() as connection, connection.begin():
            await connection.run_sync(load_metadata().create_all)

        with pytest.raises(StartupError, match="make db-stamp to=heads"):
            await init_db()

    @pytest.mark.slow
    async def test_stays_empty_where_the_plan_does_not_allow_the_processes(
        self, fresh_database: str
    ) -> None:
        """What a deployment starts afterwards would refuse to."""
        command = ("upgrade", "heads")
        outcome = alembic(fresh_database, *command, REDIS_CONNECTION_LIMIT="30", CELERY_WORKERS="7")

        assert outcome.status == 1
        [line] = [line for line in outcome.output.splitlines() if "7 worker x 4" in line]
        assert line.startswith("error: the service's processes may hold more connections to Redis")
        async with connect() as connection:
            state = await connection.run_sync(read_state, script_directory(), load_metadata())
        assert state.is_empty


class TestDatabaseBehind:
    @pytest.mark.parametrize(
        ("environment", "command"),
        [("local", "make db-upgrade"), ("production", "alembic upgrade heads")],
    )
    async def test_is_refused_with_the_command(
        self,
        fresh_database: str,
        monkeypatch: pytest.MonkeyPatch,
        environment: str,
        command: str,
    ) -> None:
        core = ScriptDirectory(ALEMBIC_DIR, version_locations=[version_location(CORE)])
        async with connect() as connection, connection.begin():
            await connection.run_sync(upgrade_to_heads, core)
        change_settings(monkeypatch, ENVIRONMENT=environment)

        with pytest.raises(StartupError) as refusal:
            await init_db()

        assert "is behind the code: it lacks" in str(refusal.value)
        assert "_example_0001" in str(refusal.value)
        assert f"Run `{command}` first" in str(refusal.value)


class TestDatabaseAhead:
    @pytest.mark.parametrize("environment", ["local", "production"])
    async def test_only_warns(
        self,
        fresh_database: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        environment: str,
    ) -> None:
        """As after a rollback of the code: refusing would make the rollback an outage."""
        await init_db()
        await replace_rows("f00dfeed1234")
        change_settings(monkeypatch, ENVIRONMENT=environment)

        with caplog.at_level(logging.WARNING):
            await init_db()

        assert "ahead of this code: it has f00dfeed1234" in caplog.text

    @pytest.mark.slow
    async def test_a_database_command_says_so_in_one_line(self, fresh_database: str) -> None:
        await init_db()
        await replace_rows("f00dfeed1234")

        outcome = alembic(fresh_database, "--quiet", "upgrade", "heads")

        assert outcome.status == 1
        assert "error: the database is ahead of this code" in outcome.output
        assert "Traceback" not in outcome.output

    @pytest.mark.slow
    async def test_a_deployment_that_rolls_back_leaves_it(self, fresh_database: str) -> None:
        """What the compose file runs before the service starts; anywhere else it upgrades."""
        command = ("-x", "leave-ahead", "upgrade", "heads")

        upgraded = alembic(fresh_database, *command)
        await replace_rows("f00dfeed1234")
        left = alembic(fresh_database, *command)

        assert (upgraded.status, left.status) == (0, 0), upgraded.output + left.output
        assert "ahead of this code: it has f00dfeed1234" in left.output


class TestExtensionThatLeft:
    @pytest.fixture
    async def database(self, fresh_database: str, monkeypatch: pytest.MonkeyPatch) -> str:
        """A database with the tables of an extension that nobody has any more."""
        await init_db()
        await replace_rows("departed_0001")
        async with connect() as connection, connection.begin():
            note = await connection.run_sync(read_note)
            note["applied"].append("departed_0001")
            await connection.run_sync(write_note, note)
        return fresh_database

    async def test_the_start_names_it_and_the_ways_out(
        self, database: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            await init_db()

        assert "the extension departed was removed" in caplog.text
        assert "make db-downgrade extension=departed" in caplog.text
        assert "make db-forget extension=departed" in caplog.text

    async def test_a_database_behind_is_refused_all_the_same(self, database: str) -> None:
        async with connect() as connection, connection.begin():
            await connection.run_sync(write_note, {"applied": ["core_0001", "departed_0001"]})

        with pytest.raises(StartupError, match=r"behind the code: it lacks .*_example_0001"):
            await init_db()

    @pytest.mark.slow
    def test_database_commands_name_it(self, database: str) -> None:
        outcome = alembic(database, "current")

        assert outcome.status == 1
        assert "the extension departed was removed" in outcome.output
        assert "Traceback" not in outcome.output

    @pytest.mark.slow
    async def test_it_can_be_forgotten(self, database: str) -> None:
        await db.forget("departed")

        async with connect() as connection:
            state = await connection.run_sync(read_state, script_directory(), load_metadata())
        assert not state.unknown
        assert not state.missing
        upgrade = alembic(database, "upgrade", "heads")
        assert upgrade.status == 0, upgrade.output
        assert "Running upgrade" not in upgrade.output
