import asyncio
import io

import pytest
from sqlalchemy import text

from app.core.config import StartupError, settings
from kit.commands import db
from kit.database._connect import connect
from kit.migrations import init_db
from kit.migrations._branches import load_metadata, script_directory
from kit.migrations._reset import forget_extension, refuse_production, reset_database
from kit.migrations._state import read_state
from kit.migrations._upgrade import upgrade_to_heads
from kit.testing._environment import change_settings
from kit.testing._migrations import catalogue, run_module
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
        async with connect() as connection:
            expected = await connection.run_sync(catalogue)
        await execute("CREATE TYPE mood AS ENUM ('calm')")
        await execute("CREATE TABLE stray (mood mood, api_token_id int REFERENCES api_token)")
        await execute("CREATE VIEW seen AS SELECT * FROM stray")
        await execute("CREATE MATERIALIZED VIEW kept AS SELECT * FROM stray")
        await execute("CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        await execute("CREATE SEQUENCE counter")
        await execute("INSERT INTO admin_user (username, password_hash) VALUES ('a', 'b')")

        await self.reset()

        async with connect() as connection:
            assert await connection.run_sync(catalogue) == expected
            assert await connection.scalar(text("SELECT count(*) FROM admin_user")) == 0

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

    async def test_refuses_when_nobody_can_tell_what_else_is_applied(
        self, fresh_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await init_db()
        await execute("COMMENT ON TABLE alembic_version IS NULL")
        disable_example(monkeypatch)

        with pytest.raises(StartupError, match="has lost its comment"):
            await self.forget("_example")

    @staticmethod
    async def forget(extension: str) -> None:
        async with connect() as connection, connection.begin():
            await connection.run_sync(forget_extension, script_directory(), extension)


@pytest.mark.slow
def test_status_lists_what_is_missing(fresh_database: str) -> None:
    outcome = run_module(fresh_database, "kit.commands.db", "status")

    assert outcome.status == 0, outcome.output
    assert "missing  core" in outcome.output
    assert "missing  _example" in outcome.output
    assert "Run `make db-upgrade`" in outcome.output
