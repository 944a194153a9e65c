"""A migration of a table that others use: they are served, and it comes after them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text

from app.core.config import StartupError
from kit.database import connect
from kit.migrations import _upgrade, init_db
from kit.migrations._branches import ALEMBIC_DIR, version_locations
from kit.migrations._upgrade import upgrade_to_heads
from kit.testing import change_settings
from kit.testing._databases import environment_for
from kit.tests.migrations.test_autocommit import write_project
from kit.tests.migrations.test_concurrency import start_upgrade

pytestmark = pytest.mark.slow

REVISION = """
from alembic import op

revision = "{revision}"
down_revision = {before!r}
branch_labels = {labels!r}
depends_on = "core_0001"


def upgrade() -> None:
    {upgrade}


def downgrade() -> None:
    pass
"""
COLUMN = 'op.execute("ALTER TABLE api_token ADD COLUMN probe int")'
INDEX = """with op.get_context().autocommit_block():
        op.execute("CREATE INDEX CONCURRENTLY ix_probe ON api_token (name)")"""


OUTSIDE = """with op.get_context().autocommit_block():
        op.execute("CREATE TYPE probe AS ENUM ('a')")"""


def write_revisions(folder: Path, *upgrades: str) -> None:
    for file in folder.glob("*.py"):
        file.unlink()
    before = None
    for number, upgrade in enumerate(upgrades):
        labels = None if before else ("service",)
        fields = {"revision": f"probe_{number}", "before": before, "labels": labels}
        (folder / f"{number}.py").write_text(REVISION.format(upgrade=upgrade, **fields))
        before = f"probe_{number}"


@asynccontextmanager
async def in_use(statement: str = "SELECT FROM api_token") -> AsyncIterator[None]:
    """A transaction that has used the table and does not end."""
    async with connect() as connection, connection.begin():
        await connection.execute(text(statement))
        yield


async def longest_read(ended: asyncio.Event) -> float:
    """The longest that a reader who reads again and again waited, in seconds."""
    longest = 0.0
    async with connect() as connection:
        while not ended.is_set():
            start = time.monotonic()
            await connection.execute(text("SELECT FROM api_token"))
            await connection.rollback()
            longest = max(longest, time.monotonic() - start)
            await asyncio.sleep(0.02)
    return longest


async def test_readers_are_served_while_it_waits(tmp_path: Path, fresh_database: str) -> None:
    await init_db()
    project = write_project(tmp_path, leaving="")
    (project / "app/models/probes.py").unlink()
    write_revisions(project / "alembic/versions", COLUMN)

    ended = asyncio.Event()
    async with in_use():
        upgrade = await start_upgrade(environment_for(fresh_database), project)
        reading = asyncio.create_task(longest_read(ended))
        assert upgrade.stdout is not None
        for _ in range(3):
            await upgrade.stdout.readuntil(b"a table is in use; others go first")
        ended.set()
        longest = await reading
    output, _ = await upgrade.communicate()

    assert upgrade.returncode == 0, output
    assert 1 < longest < 4, "POSTGRES_LOCK_TIMEOUT is 2; three tries took 8 at least"
    async with connect() as connection:
        await connection.execute(text("SELECT probe FROM api_token"))


async def test_what_an_earlier_revision_did_outside_is_not_done_again(
    tmp_path: Path, fresh_database: str
) -> None:
    await init_db()
    project = write_project(tmp_path, leaving="")
    (project / "app/models/probes.py").unlink()
    write_revisions(project / "alembic/versions", OUTSIDE, COLUMN)

    async with in_use():
        upgrade = await start_upgrade(environment_for(fresh_database), project)
        assert upgrade.stdout is not None
        await upgrade.stdout.readuntil(b"a table is in use; others go first")
    output, _ = await upgrade.communicate()

    assert upgrade.returncode == 0, output
    assert b"probe_0 -> probe_1" in output


async def test_nor_by_the_function(
    tmp_path: Path,
    fresh_database: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await init_db()
    write_revisions(tmp_path, OUTSIDE, COLUMN)
    change_settings(monkeypatch, POSTGRES_LOCK_TIMEOUT=0.1)

    async def upgrade() -> None:
        async with connect() as connection:
            await connection.run_sync(upgrade_to_heads, script(tmp_path))

    async with in_use():
        # A thread with a loop of its own: a migration sleeps between two tries.
        upgrading = asyncio.create_task(asyncio.to_thread(asyncio.run, upgrade()))
        async with asyncio.timeout(30):
            while "others go first" not in caplog.text:  # noqa: ASYNC110 (a log has no event)
                await asyncio.sleep(0.05)
    await upgrading


async def test_it_gives_up_in_the_end(
    tmp_path: Path, fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await init_db()
    write_revisions(tmp_path, COLUMN)
    monkeypatch.setattr(_upgrade, "LONGEST_RETRYING", 0)
    change_settings(monkeypatch, POSTGRES_LOCK_TIMEOUT=0.1)

    async with in_use(), connect() as connection:
        with pytest.raises(StartupError, match="in use .* could not run: ALTER TABLE api_token"):
            await connection.run_sync(upgrade_to_heads, script(tmp_path))


async def test_an_index_built_concurrently_waits_as_long_as_it_takes(
    tmp_path: Path, fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await init_db()
    write_revisions(tmp_path, INDEX)
    change_settings(monkeypatch, POSTGRES_LOCK_TIMEOUT=0.1)
    monkeypatch.setattr(_upgrade, "LONGEST_RETRYING", 0)

    async with connect() as connection:
        async with in_use("LOCK TABLE api_token IN ROW EXCLUSIVE MODE"):
            building = asyncio.create_task(connection.run_sync(upgrade_to_heads, script(tmp_path)))
            await asyncio.sleep(1)
            assert not building.done()
        await asyncio.wait_for(building, 30)


def script(folder: Path) -> ScriptDirectory:
    return ScriptDirectory(ALEMBIC_DIR, version_locations=[*version_locations()[:-1], folder])
