"""Applies pending migrations to tables with made-up rows, in use: `make db-rehearse`.

`python -m kit.testing.rehearsal --rows 10000`
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack

from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.database import connect
from kit.migrations import (
    load_metadata,
    missing_revisions,
    read_rows,
    run_revision,
    script_directory,
    upgrade_to_heads,
)
from kit.process import start_local_services, temporary_postgres
from kit.settings import StartupError
from kit.testing._rows import TABLES, fill_tables

WITHOUT_CACHE = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
USES = {
    "read": "SELECT * FROM {0} LIMIT 1",
    "write": """
        WITH one AS (SELECT ctid FROM {0} LIMIT 1 FOR UPDATE)
        DELETE FROM {0} AS it USING one WHERE it.ctid = one.ctid AND random() < 0
    """,
}
"""The write takes the locks of one, on the table and a row, and changes nothing."""

NOTABLE = 0.1
"""Seconds from which a statement is listed that changes nothing."""


class _Watch:
    def __init__(self) -> None:
        self.statements = [("", 0.0)]  # with the seconds that each took
        self.waits: dict[tuple[int, str, str], float] = {}  # by statement, table and use
        self.failures: list[str] = []
        self.is_over = False

    def time_statements(self, connection: Connection) -> None:
        begun = 0.0

        @event.listens_for(connection, "before_cursor_execute")
        def _begin(_connection: object, _cursor: object, sql: str, *_rest: object) -> None:
            nonlocal begun
            begun = time.monotonic()
            self.statements.append((" ".join(sql.split()), 0.0))

        @event.listens_for(connection, "after_cursor_execute")
        def _end(*_arguments: object) -> None:
            self.statements[-1] = (self.statements[-1][0], time.monotonic() - begun)

    async def use(self, connection: AsyncConnection, table: str, use: str) -> None:
        while not self.is_over:
            first, begun = len(self.statements) - 1, time.monotonic()
            try:
                await connection.exec_driver_sql(USES[use].format(table))
            except DBAPIError as error:
                self.failures.append(f"A {use} of {table} failed: {error.orig}")
                return
            for number in range(first, len(self.statements)):
                key = (number, table, use)
                self.waits[key] = max(time.monotonic() - begun, self.waits.get(key, 0))
            await asyncio.sleep(0.002)  # the migration needs the processor, too

    def report(self, tables: Sequence[str]) -> Iterator[str]:
        yield "    took    read   write  (seconds; the longest read and write meanwhile)"
        for number, (sql, took) in enumerate(self.statements):
            is_own = sql.partition(" ")[0] in ("", "SELECT", "SET") or "alembic_version" in sql
            if not is_own or took > NOTABLE:
                yield f"{took:8.2f}{self._longest(number, None)}  {sql[:100]}"
        for table in tables:
            yield f"{'':8}{self._longest(None, table)}  table {table}"
        yield from self.failures

    def _longest(self, number: int | None, table: str | None) -> str:
        longest = dict.fromkeys(USES, 0.0)
        for (statement, name, use), wait in self.waits.items():
            if number in (None, statement) and table in (None, name):
                longest[use] = max(wait, longest[use])
        return "".join(f"{wait:8.2f}" for wait in longest.values())


async def rehearse(
    script: ScriptDirectory, pending: Sequence[Script], rows: int
) -> tuple[str, bool]:
    """Apply revisions on a temporary server while others use the tables that were there.

    Returns:
        For each statement and table the longest times, and whether the migration succeeded.
    """
    watch = _Watch()
    with temporary_postgres() as url:
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(connect(url, connect_args={}))
            for revision in missing_revisions(script, []):
                if revision not in pending:
                    await connection.run_sync(run_revision, script, revision)
            async with connection.begin():
                empty = await connection.run_sync(fill_tables, load_metadata(), count=rows)
                tables = [row.name for row in await connection.execute(text(TABLES))]
            users = []
            for table, use in ((table, use) for table in tables for use in USES):
                user = await stack.enter_async_context(connect(url, WITHOUT_CACHE))
                await user.execution_options(isolation_level="AUTOCOMMIT")
                users.append(asyncio.create_task(watch.use(user, table, use)))
            while len(watch.waits) + len(watch.failures) < len(users):  # noqa: ASYNC110 (not one event)
                await asyncio.sleep(0.01)
            # In a thread with a loop of its own: between two tries, a migration sleeps.
            failure = await asyncio.to_thread(asyncio.run, _migrate(url, script, watch))
            watch.is_over = True
            await asyncio.gather(*users)
    watch.failures += [f"No rows for {name}: {reason}" for name, reason in empty.items()]
    watch.failures += [f"The migration failed: {failure}"] if failure else []
    return "\n".join(watch.report(tables)), not failure


async def _migrate(url: str, script: ScriptDirectory, watch: _Watch) -> str:
    async with connect(url, connect_args={}) as connection:
        await connection.run_sync(watch.time_statements)
        try:
            await connection.run_sync(upgrade_to_heads, script)
        except DBAPIError as error:
            return f"{error.orig}\n{error.statement}"
    return ""


def _pending(script: ScriptDirectory, after: str) -> list[Script]:
    """The revisions that build on one, or else those that the configured database lacks."""
    if after:
        every = missing_revisions(script, [])
        if after not in {revision.revision for revision in every}:
            raise StartupError(f"there is no revision {after}: `make db-status` lists the newest.")
        built_on = {
            revision: {
                each.revision for each in script.iterate_revisions(revision.revision, "base")
            }
            for revision in every
        }
        return [each for each in every if after in built_on[each] - {each.revision}]

    async def applied() -> list[str]:
        async with connect() as connection:
            return await connection.run_sync(read_rows)

    start_local_services()
    return missing_revisions(script, asyncio.run(applied()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m kit.testing.rehearsal", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000, help="made-up rows in each table")
    parser.add_argument("--after", help="a revision; else those of the configured database")
    options = parser.parse_args(arguments)
    script = script_directory()
    pending = _pending(script, options.after)
    report, has_succeeded = "Nothing is pending. To rehearse what was applied: after=REVISION", True
    if pending:
        report, has_succeeded = asyncio.run(rehearse(script, pending, options.rows))
    sys.stdout.write(f"{report}\n")
    return 0 if has_succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
