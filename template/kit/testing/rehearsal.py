"""Applies pending migrations to tables with made-up rows, in use: `make db-rehearse`.

`python -m kit.testing.rehearsal --rows 10000`

Rows are made for every table of a database, as its catalogue describes the tables: the models
describe the newest revision only, but migrations meet rows of every earlier one.
"""

# ruff: noqa: S608 (the names are the catalogue's, quoted by the server)

import argparse
import asyncio
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, MetaData, TextClause, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.database import connect
from kit.migrations import (
    OURS,
    load_metadata,
    missing_revisions,
    read_rows,
    run_revision,
    script_directory,
    upgrade_to_heads,
)
from kit.process import start_local_services, temporary_postgres
from kit.settings import StartupError

VALUES = (
    "'row ' || n",
    """'{"row": ' || n || '}'""",
    "n::text",
    *(f"(n % {limit})::text" for limit in (30000, 9, 2)),
    "'0.' || n % 10",  # numeric(4, 4)
    "(timestamp '2024-01-01' + n * interval '1 day')::text",
    "(time '00:00' + n * interval '1 second')::text",
    "md5(n::text)",
    "('10.0.0.0'::inet + n)::text",
    "lpad(to_hex(n), 12, '0')",  # macaddr
    "'{' || n || '}'",
    "'{}'",
    "'[' || n || ',' || n + 1 || ')'",
    "format('[%s,%s)', date '2024-01-01' + n::int, date '2024-01-01' + n::int + 1)",
    "'(' || n || ',' || n || ')'",
    "'POINT(' || n % 90 || ' ' || n % 90 || ')'",
    "'[' || rtrim(repeat(n || ',', k), ',') || ']'",  # vector(k)
)
"""Texts for the row number n; a column gets the first that its type accepts. k is its length."""

LONGEST_TEXT = 1000
"""Characters of a text that is as long as a check may want it."""

ACCEPTS = """
    CREATE OR REPLACE FUNCTION pg_temp.accepts(type text, value text) RETURNS bool
    LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format('SELECT CAST(%L AS %s)', value, type);
        RETURN true;
    EXCEPTION WHEN OTHERS THEN
        RETURN false;
    END $$
"""

TABLES = (
    OURS
    + """
    SELECT oid, oid::regclass::text AS name, key,
        EXISTS (SELECT FROM pg_index WHERE indrelid = oid AND NOT indimmediate) AS has_deferrable
    FROM tables"""
)

COLUMNS = """
    SELECT attrelid AS table, attnum AS number, attname, quote_ident(attname) AS name,
        format_type(atttypid, atttypmod) AS type, typcategory::text AS category,
        attnotnull AS required,
        atttypmod - CASE WHEN typcategory = 'S' THEN 4 ELSE 0 END AS k,
        pg_get_expr(adbin, adrelid) AS default, (
            attidentity <> '' OR attgenerated <> ''
            OR coalesce(pg_get_expr(adbin, adrelid) LIKE 'nextval(%', false)
        ) AS automatic
    FROM pg_attribute
    JOIN pg_type ON pg_type.oid = atttypid
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE attrelid = ANY(:tables) AND attnum > 0 AND NOT attisdropped
    ORDER BY attrelid, attnum
"""

CONSTRAINTS = """
    SELECT conrelid AS table, contype::text AS kind, conkey AS columns, confrelid AS target,
        pg_get_expr(conbin, conrelid) AS condition, ARRAY(
            SELECT quote_ident(attname)::text FROM unnest(confkey) WITH ORDINALITY AS key (num, i)
            JOIN pg_attribute ON attrelid = confrelid AND attnum = num ORDER BY i
        ) AS target_columns
    FROM pg_constraint WHERE conrelid = ANY(:tables) AND contype IN ('c', 'f')
    ORDER BY oid
"""


def fill_tables(
    connection: Connection, metadata: MetaData, *, count: int = 2, first: int = 1, fit: Any = None
) -> dict[str, str]:
    """Add made-up rows to every table, in the caller's transaction.

    Odd rows have a value in each column; even ones have defaults, and NULL where it is allowed. A
    model may give its own value, as an SQL expression of the row's number `n`:
    `Field(sa_column_kwargs={"info": {"sample": "'DE' || lpad(n::text, 20, '0')"}})`.

    Args:
        connection: to the database.
        metadata: of the models.
        count: rows for each table; it gets fewer where a constraint has no room for so many.
        first: number of the first row, for a further call.
        fit: a `RowMaker` of the tables as they were, which the rows have to fit, too.

    Returns:
        For each table that is still empty the reason.
    """
    maker = RowMaker(connection, metadata, fit)
    failures: dict[str, str] = {}
    pending = set(maker.names)
    while pending:
        # In a circle of tables that refer to each other, one has to begin with NULL.
        ready = {oid for oid in pending if not maker.targets(oid) & pending - {oid}} or pending
        results = {oid: maker.add_rows(oid, count, first) for oid in sorted(ready)}
        failures |= {maker.names[oid]: failure for oid, failure in results.items()}
        pending = pending - ({oid for oid in ready if not results[oid]} or ready)
    return {name: failure for name, failure in failures.items() if failure}


class RowMaker:
    """Makes rows up for the tables that a database has now."""

    def __init__(self, connection: Connection, metadata: MetaData, earlier: Any = None) -> None:
        """Read the catalogue; rows fit what an earlier maker has read, too."""
        self._connection = connection
        connection.execute(text(ACCEPTS))
        tables = connection.execute(text(TABLES)).all()
        self.names: dict[int, str] = {row.oid: row.name for row in tables}
        # PostgreSQL has no `ON CONFLICT` for a table with a deferrable unique constraint.
        self._on_conflict = {
            row.oid: "" if row.has_deferrable else " ON CONFLICT DO NOTHING" for row in tables
        }
        self._models = {row.oid: metadata.tables.get(row.key) for row in tables}
        parameters = {"tables": list(self.names)}
        self._columns = connection.execute(text(COLUMNS), parameters).all()
        self._constraints = [*connection.execute(text(CONSTRAINTS), parameters)]
        members = "SELECT format_type(enumtypid, -1), enumlabel::text FROM pg_enum"
        self._members = {*map(tuple, connection.execute(text(members)))}
        self._required = {(row.table, row.number) for row in self._columns if row.required}
        self._refused: set[Any] = set()
        if earlier:
            self._fit(earlier)
        self._values = self._find_values()

    def _fit(self, earlier: "RowMaker") -> None:
        """Add the earlier constraints of what is there still, and refuse new members."""
        self._required |= earlier._required
        self._constraints += [
            row
            for row in earlier._constraints
            if row not in self._constraints and row.target in {0, *self.names}
            if earlier._described(row) <= self._described(row)
        ]
        types = {type_ for type_, _ in earlier._members}
        self._refused = {each for each in self._members - earlier._members if each[0] in types}

    def _described(self, constraint: Any) -> set[tuple[str, str]]:
        columns = [each for each in self._columns if each.table == constraint.table]
        return {(row.attname, row.type) for row in columns if row.number in constraint.columns}

    def _find_values(self) -> dict[tuple[str, int], list[str]]:
        """The expressions that each type accepts, for small and large numbers of rows."""
        types = {("text", -1), *((row.type, row.k) for row in self._columns)}
        listed = ", ".join(f"({_quoted(type_)}, {k})" for type_, k in types)
        texts = ", ".join(f"({i}, {value})" for i, value in enumerate(VALUES))
        found = self._connection.execute(
            _literally(
                f"SELECT type, k, i FROM (VALUES {listed}) AS types (type, k)"
                " CROSS JOIN (VALUES (1::bigint), (2), (7), (1000000)) AS series (n)"
                f" CROSS JOIN LATERAL (VALUES {texts}) AS texts (i, value)"
                " GROUP BY type, k, i HAVING bool_and(pg_temp.accepts(type, value)) ORDER BY i"
            )
        )
        accepted: dict[tuple[str, int], list[str]] = {}
        for type_, k, i in found:
            accepted.setdefault((type_, k), []).append(re.sub(r"\bk\b", str(k), VALUES[i]))
        return accepted

    def targets(self, oid: int) -> set[int]:
        """The tables that a table refers to."""
        return {row.target for row in self._constraints if row.table == oid}

    def add_rows(self, oid: int, count: int, first: int) -> str:
        """Add rows to a table; if it is empty then, return the reason."""
        failure = "no values were found that its constraints allow"
        series = f"generate_series({first}, {first + count - 1}) AS series (n)"
        try:
            with self._connection.begin_nested():
                self._connection.execute(_literally(self._statement(oid, series)))
        except DBAPIError as error:
            failure = str(error.orig).splitlines()[0]
        is_filled = self._connection.scalar(text(f"SELECT EXISTS (SELECT FROM {self.names[oid]})"))
        return "" if is_filled else failure

    def _statement(self, oid: int, source: str) -> str:
        """An INSERT that takes, for each row, the first values that all checks of a table pass."""
        constraints = [row for row in self._constraints if row.table == oid]
        checks = [row for row in constraints if row.kind == "c"]
        columns = [row for row in self._columns if row.table == oid]
        referring: dict[int, str] = {}
        for i, key in enumerate(row for row in constraints if row.kind == "f"):
            aliases = [f"value_{j}" for j in range(len(key.columns))]
            source += (
                f" LEFT JOIN (SELECT {', '.join(key.target_columns)}, row_number() OVER ()"
                f" FROM {self.names[key.target]}) AS target_{i} ({', '.join(aliases)}, row)"
                f" ON target_{i}.row = 1 + (n - 1) % (SELECT greatest(count(*), 1)"
                f" FROM {self.names[key.target]})"
            )
            referred = (f"target_{i}.{alias}" for alias in aliases)
            referring = dict(zip(key.columns, referred, strict=True)) | referring
        lists = ["(VALUES (0)) AS list_0"]
        for column in columns:
            values = self._values_to_try(column, referring.get(column.number), checks)
            rows = ", ".join(f"(({value})::{column.type})" for value in values)
            lists.append(f"(VALUES {rows}) AS list_{column.number} ({column.name})")
        conditions = " AND ".join(["true", *(f"({row.condition}) IS NOT false" for row in checks)])
        names = ", ".join(column.name for column in columns if not column.automatic)
        return (
            f"INSERT INTO {self.names[oid]} {f'({names})' if names else ''} SELECT {names}"
            f" FROM (SELECT made_up.* FROM {source} CROSS JOIN LATERAL (SELECT *"
            f" FROM {', '.join(lists)} WHERE {conditions} LIMIT 1) AS made_up) AS made_up"
            f"{self._on_conflict[oid]}"
        )

    def _values_to_try(self, column: Any, referred: str | None, checks: Iterable[Any]) -> list[str]:
        """What its type accepts; for checks also what they mention, and what is close to it."""
        if column.automatic:
            return ["NULL"]
        made_up = [referred] if referred else self._made_up(column)
        is_required = (column.table, column.number) in self._required
        is_refused = column.default in {f"{_quoted(each)}::{of}" for of, each in self._refused}
        otherwise = (not is_refused and column.default) or (None if is_required else "NULL")
        usual = f"CASE WHEN n % 2 = 1 THEN {made_up[0]} ELSE {otherwise} END"
        values = [usual if otherwise else made_up[0]]
        if conditions := [row.condition for row in checks if column.number in row.columns]:
            later = [re.sub(r"\bn\b", "(n + 1)", value) for value in made_up]
            values += [*made_up, *later, *self._mentioned(column, " ".join(conditions))]
            values += [] if is_required else ["NULL"]
        return values

    def _made_up(self, column: Any) -> list[str]:
        model = self._models[column.table]
        if model is not None and column.attname in model.columns:
            sample = model.columns[column.attname].info.get("sample")
            if sample:
                return [f"({sample})::{column.type}"]
        values = self._values.get((column.type, column.k), ["NULL"])
        if column.category == "E":
            members = f"enum_range(NULL::{column.type})"
            for each in (each for of, each in self._refused if of == column.type):
                members = f"array_remove({members}, {_quoted(each)})"
            values = [f"({members})[1 + (n - 1) % cardinality({members})]"]
        elif column.category == "S" and column.k > 0:
            values = [f"right({value}, {column.k})" for value in values]
        return [f"({value})::{column.type}" for value in values]

    def _mentioned(self, column: Any, conditions: str) -> list[str]:
        texts = [each.replace("''", "'") for each in re.findall(r"'((?:[^']|'')*)'", conditions)]
        for number in map(int, re.findall(r"\b\d{1,9}\b", conditions)):
            texts += [str(number), str(number + 1), str(number - 1)]
            texts += ["1" * number] if column.category == "S" and number <= LONGEST_TEXT else []
        accepted = self._connection.scalars(
            text(
                "SELECT t FROM unnest(CAST(:texts AS text[])) AS t WHERE pg_temp.accepts(:type, t)"
            ),
            {"texts": [*dict.fromkeys(texts)], "type": column.type},
        )
        return [*map(_quoted, accepted)]


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _literally(statement: str) -> TextClause:
    """A statement in which a colon begins no parameter."""
    return text(statement.replace(":", r"\:"))


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
    parser = argparse.ArgumentParser(
        prog="python -m kit.testing.rehearsal",
        description="Apply pending migrations to tables with made-up rows, in use.",
    )
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
