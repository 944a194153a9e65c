import asyncio
import io
from pathlib import Path

import pytest
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from app.core.config import StartupError, settings
from kit.commands import db
from kit.database import connect
from kit.migrations import init_db
from kit.migrations._branches import (
    MigrationState,
    complete_note,
    load_metadata,
    note_applied,
    read_note,
    read_state,
    script_directory,
    write_note,
)
from kit.migrations._env import (
    adopt_forgotten,
    forget_extension,
    is_of_unknown_origin,
    refuse_production,
    reset_database,
)
from kit.migrations._upgrade import run_revision, upgrade_to_heads
from kit.testing import change_settings
from kit.testing._databases import alembic, catalogue, database_engine, run_module
from kit.tests.test_startup_errors import PRODUCTION


async def execute(statement: str) -> None:
    async with connect() as connection, connection.begin():
        await connection.execute(text(statement))


def disable_example(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [name for name in settings.ENABLED_EXTENSIONS if name != "_example"]
    change_settings(monkeypatch, ENABLED_EXTENSIONS=others)


@pytest.mark.slow
class TestReset:
    async def test_refuses_in_production(
        self, fresh_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await init_db()
        change_settings(monkeypatch, ENVIRONMENT="production")

        with pytest.raises(StartupError, match="ENVIRONMENT is production"):
            await self.reset()

    async def test_refuses_productions_database_whatever_the_settings_say(
        self, fresh_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A developer's `.env` that names production's database must not be enough."""
        await execute("CREATE TABLE precious (id int)")
        with monkeypatch.context() as production:
            change_settings(production, ENVIRONMENT="production")
            async with connect() as connection:
                await connection.run_sync(upgrade_to_heads, script_directory())

        with pytest.raises(StartupError, match="is never reset"):
            await self.reset()
        await execute("SELECT FROM precious")

    async def test_drops_everything_and_builds_it_anew(self, fresh_database: str) -> None:
        await init_db()
        await execute("CREATE EXTENSION citext SCHEMA public")
        async with connect() as connection:
            expected = await connection.run_sync(catalogue)
        by_hand = (
            "CREATE TYPE mood AS ENUM ('calm')",
            "CREATE TABLE stray (mood mood, api_token_id int REFERENCES api_token)",
            "CREATE VIEW seen AS SELECT * FROM stray",
            "CREATE MATERIALIZED VIEW kept AS SELECT * FROM stray",
            "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE AGGREGATE total (int) (sfunc = int4pl, stype = int, initcond = 0)",
            "CREATE SEQUENCE counter",
            "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
            "CREATE TYPE pair AS (a int, b positive)",
            "CREATE TYPE span AS RANGE (subtype = float8)",
            'CREATE COLLATION plainly FROM "C"',
            "CREATE TEXT SEARCH CONFIGURATION plain (COPY = simple)",
            "CREATE TABLE parted (id serial, at int) PARTITION BY RANGE (at)",
            "CREATE TABLE part PARTITION OF parted DEFAULT",
            "CREATE STATISTICS related ON id, at FROM parted",
        )
        for statement in by_hand:
            await execute(statement)
        await execute("INSERT INTO admin_user (username, password_hash) VALUES ('a', 'b')")

        await self.reset()

        async with connect() as connection:
            assert await connection.run_sync(catalogue) == expected
            assert await connection.scalar(text("SELECT count(*) FROM admin_user")) == 0
        for statement in by_hand:
            await execute(statement)  # of none is anything left

    @pytest.mark.parametrize("answer", ["", "y\n"])
    async def test_asks_first(
        self,
        fresh_database: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        answer: str,
    ) -> None:
        await execute("CREATE TABLE precious (id int)")
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))

        with pytest.raises(StartupError, match="nothing was changed"):
            await asyncio.to_thread(db.reset)

        assert f"All data of the database '{fresh_database}'" in capsys.readouterr().out
        await execute("SELECT FROM precious")

    async def test_goes_on_when_the_answer_is_the_databases_name(self, fresh_database: str) -> None:
        await execute("CREATE TABLE stray (id int)")

        # A process of its own: the engines that make the local logins are made once in each.
        outcome = run_module(fresh_database, "kit.commands.db", "reset", answer=fresh_database)

        assert outcome.status == 0, outcome.output
        async with connect() as connection:
            assert await connection.scalar(text("SELECT to_regclass('stray')")) is None
            assert await connection.scalar(text("SELECT count(*) FROM admin_user")) == 1

    async def test_production_is_known_although_it_applied_nothing(
        self, fresh_database: str
    ) -> None:
        upgrade = (fresh_database, "alembic", "upgrade", "heads")
        local = PRODUCTION | {"ENVIRONMENT": "local"}
        assert run_module(*upgrade, **local).status == 0  # type: ignore[arg-type]
        await execute("COMMENT ON TABLE alembic_version IS NULL")

        outcome = run_module(*upgrade, **PRODUCTION)  # type: ignore[arg-type]

        assert outcome.status == 0, outcome.output
        async with connect() as connection:
            with pytest.raises(StartupError, match="was migrated with ENVIRONMENT=production"):
                await connection.run_sync(refuse_production)

    async def test_production_is_known_although_its_code_was_rolled_back(
        self, fresh_database: str
    ) -> None:
        """As `alembic -x leave-ahead upgrade heads`, the deployment's command, leaves it."""
        await init_db()
        await execute("DELETE FROM alembic_version")
        await execute("INSERT INTO alembic_version VALUES ('f00dfeed1234')")
        command = ("alembic", "-x", "leave-ahead", "upgrade", "heads")

        outcome = run_module(fresh_database, *command, **PRODUCTION)  # type: ignore[arg-type]

        assert outcome.status == 0, outcome.output
        async with connect() as connection:
            with pytest.raises(StartupError, match="was migrated with ENVIRONMENT=production"):
                await connection.run_sync(refuse_production)

    async def test_a_developer_s_upgrade_does_not_make_a_database_of_unknown_origin_theirs(
        self, fresh_database: str
    ) -> None:
        """Production's may be migrated by SQL."""
        sql = alembic(fresh_database, "upgrade", "heads", "--sql").output
        with database_engine(fresh_database).connect() as connection:
            lines = (line for line in sql.splitlines() if not line.startswith("INFO"))
            connection.exec_driver_sql("\n".join(lines))
        script = script_directory()

        async with connect() as connection:
            assert await connection.run_sync(is_of_unknown_origin)
            await connection.rollback()
            revision = script.get_revision("_example_0001")
            await connection.run_sync(run_revision, script, revision, downgrade=True)
            await connection.run_sync(upgrade_to_heads, script)

            assert "applied" in await connection.run_sync(read_note)
            assert await connection.run_sync(is_of_unknown_origin)

    @pytest.mark.parametrize("environment", ["local", "production"])
    async def test_a_stamp_marks_productions_database_alone(
        self, fresh_database: str, monkeypatch: pytest.MonkeyPatch, environment: str
    ) -> None:
        """As after a dump of the tables without that of Alembic."""
        script = script_directory()

        def stamp(connection: Connection) -> None:
            load_metadata().create_all(connection)
            options = {
                "script": script,
                "fn": lambda rows, _context: script._stamp_revs("heads", rows),
                "on_version_apply": (note_applied,),
            }
            MigrationContext.configure(connection, opts=options).run_migrations()

        with monkeypatch.context() as there:
            change_settings(there, ENVIRONMENT=environment)
            async with connect() as connection, connection.begin():
                await connection.run_sync(stamp)

        async with connect() as connection:
            assert await connection.run_sync(is_of_unknown_origin) == (environment == "local")
            if environment == "production":
                with pytest.raises(StartupError, match="COMMENT ON TABLE alembic_version IS NULL"):
                    await connection.run_sync(refuse_production)

    @pytest.mark.parametrize("answer", ["{name}", "{name} on {host}"])
    async def test_a_database_without_a_mark_wants_name_and_host(
        self, fresh_database: str, answer: str
    ) -> None:
        """As after `alembic upgrade heads --sql`, or a dump that left the comments out."""
        await init_db()
        await execute("COMMENT ON TABLE alembic_version IS NULL")
        host = "this machine"
        if not settings.uses_local_postgres:
            host = f"{settings.POSTGRES_HOST}:{settings.POSTGRES_PORT}"

        answer = answer.format(name=fresh_database, host=host)
        outcome = run_module(fresh_database, "kit.commands.db", "reset", answer=answer)

        assert "says whether it is production's" in outcome.output
        assert outcome.status == (0 if answer.endswith(host) else 1), outcome.output

    @staticmethod
    async def reset() -> None:
        async with connect() as connection:
            await connection.run_sync(reset_database, script_directory())


@pytest.mark.slow
class TestForget:
    async def test_refuses_an_enabled_extension(self, fresh_database: str) -> None:
        await init_db()

        with pytest.raises(StartupError, match="_example is enabled"):
            await self.forget("_example")

    async def test_refuses_an_unknown_extension(self, fresh_database: str) -> None:
        await init_db()

        with pytest.raises(StartupError, match="no revision of an extension 'departed'"):
            await self.forget("departed")

    async def test_keeps_the_tables_and_cores_revision(
        self, fresh_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Alembic stores the extension's row only, and that it stood for core's as well is lost."""
        await init_db()
        disable_example(monkeypatch)

        await self.forget("_example")

        async with connect() as connection:
            state = await connection.run_sync(read_state, script_directory(), load_metadata())
            assert await connection.scalar(text("SELECT count(*) FROM example_note")) == 0
        assert not state.missing
        assert not state.unknown

    async def test_without_the_comment_what_is_applied_follows_from_the_tables(
        self, fresh_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As after `alembic upgrade heads --sql`, or a dump that left the comments out."""
        await init_db()
        await execute("COMMENT ON TABLE alembic_version IS NULL")
        disable_example(monkeypatch)

        await self.forget("_example")

        async with connect() as connection:
            state = await connection.run_sync(read_state, script_directory(), load_metadata())
        assert not state.missing
        assert not state.unknown

    async def test_without_the_comment_other_tables_are_refused_with_the_command(
        self, fresh_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await init_db()
        await execute("COMMENT ON TABLE alembic_version IS NULL")
        await execute("ALTER TABLE api_token DROP COLUMN hint")
        disable_example(monkeypatch)

        with pytest.raises(StartupError, match='make db-stamp to="core_0001 …" purge=1'):
            await self.forget("_example")

    async def test_one_that_is_back_goes_on_with_its_tables(
        self, fresh_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await init_db()
        await execute("INSERT INTO example_note (title, body) VALUES ('kept', '')")
        await self.forget_for_a_while(monkeypatch)

        upgrade = alembic(fresh_database, "upgrade", "heads")

        assert upgrade.status == 0, upgrade.output
        async with connect() as connection:
            assert await connection.scalar(text("SELECT title FROM example_note")) == "kept"
            state = await connection.run_sync(read_state, script_directory(), load_metadata())
        assert not state.missing

    async def test_without_the_comment_one_that_is_back_is_known_by_its_tables(
        self, fresh_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await init_db()
        await self.forget_for_a_while(monkeypatch)
        await execute("COMMENT ON TABLE alembic_version IS NULL")

        async with connect() as connection:
            await connection.run_sync(adopt_forgotten, script_directory(), load_metadata())
            state = await connection.run_sync(read_state, script_directory(), load_metadata())
        assert not state.missing

    async def test_one_that_is_back_with_other_tables_is_refused_with_the_command(
        self, fresh_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await init_db()
        await self.forget_for_a_while(monkeypatch)
        await execute("COMMENT ON TABLE alembic_version IS NULL")
        await execute("ALTER TABLE example_note DROP COLUMN title")

        async with connect() as connection, connection.begin():
            with pytest.raises(StartupError, match="make db-stamp to=_example_0001"):
                await connection.run_sync(adopt_forgotten, script_directory(), load_metadata())

    async def test_tables_that_another_branch_made_are_no_reason_to_refuse(
        self, fresh_database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Of an extension whose own revisions create none, and which are to come."""
        await init_db()
        await execute("DELETE FROM alembic_version WHERE version_num = '_example_0001'")
        await execute("INSERT INTO alembic_version VALUES ('core_0001') ON CONFLICT DO NOTHING")
        await execute("ALTER TABLE example_note DROP COLUMN title")
        await execute("COMMENT ON TABLE alembic_version IS NULL")
        monkeypatch.setattr("kit.migrations._env.version_location", lambda _: tmp_path)

        async with connect() as connection, connection.begin():
            await connection.run_sync(adopt_forgotten, script_directory(), load_metadata())
            state = await connection.run_sync(read_state, script_directory(), load_metadata())
        assert state.missing == ["_example_0001"]

    async def test_one_whose_tables_went_by_hand_begins_anew(
        self, fresh_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await init_db()
        await self.forget_for_a_while(monkeypatch)
        await execute("DROP TABLE example_note")

        async with connect() as connection:
            await connection.run_sync(adopt_forgotten, script_directory(), load_metadata())
            await connection.rollback()
            await connection.run_sync(upgrade_to_heads, script_directory())
            assert await connection.scalar(text("SELECT count(*) FROM example_note")) == 0

    async def test_those_that_no_row_implies_any_more_can_be_forgotten_one_by_one(
        self, fresh_database: str
    ) -> None:
        """As after `depends_on` was edited in a revision that needed the extension's."""
        await init_db()
        await self.note_applied("departed_0001", "gone_0001")

        await self.forget("departed")

        assert (await self.state()).orphans == ["gone"]
        await self.forget("gone")
        state = await self.state()
        assert not state.unknown
        assert not state.missing

    async def test_one_that_no_row_implies_any_more_is_forgotten_by_an_upgrade(
        self, fresh_database: str
    ) -> None:
        await init_db()
        await self.note_applied("departed_0001")
        async with connect() as connection, connection.begin():
            await connection.run_sync(complete_note, script_directory())  # as `db-upgrade` does
            note = await connection.run_sync(read_note)

        assert "departed_0001" not in note["applied"]
        assert note["forgotten"] == {"departed": ["departed_0001"]}
        with pytest.raises(StartupError, match="no revision of an extension 'departed'"):
            await self.forget("departed")

    async def forget_for_a_while(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take the example out, forget it, and choose it again."""
        with monkeypatch.context() as without:
            disable_example(without)
            await self.forget("_example")

    @staticmethod
    async def note_applied(*revisions: str) -> None:
        async with connect() as connection, connection.begin():
            note = await connection.run_sync(read_note)
            note["applied"] += revisions
            await connection.run_sync(write_note, note)

    @staticmethod
    async def state() -> MigrationState:
        async with connect() as connection:
            return await connection.run_sync(read_state, script_directory(), load_metadata())

    @staticmethod
    async def forget(extension: str) -> None:
        async with connect() as connection, connection.begin():
            await connection.run_sync(
                forget_extension, script_directory(), load_metadata(), extension
            )


@pytest.mark.slow
def test_status_lists_what_is_missing(fresh_database: str) -> None:
    outcome = run_module(fresh_database, "kit.commands.db", "status")

    assert outcome.status == 0, outcome.output
    assert "missing  core" in outcome.output
    assert "missing  _example" in outcome.output
    assert "Run `make db-upgrade`" in outcome.output
