"""Each revision meets rows: made up for every table, before it and after it."""

from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Column, MetaData, String, Table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.database import connect
from kit.migrations._branches import ALEMBIC_DIR
from kit.testing import fill_tables, migrate_with_rows

TABLES = """
CREATE TYPE mood AS ENUM ('calm', 'wild');
CREATE DOMAIN percent AS int CHECK (VALUE BETWEEN 0 AND 100);
CREATE TABLE "order" (
    id serial PRIMARY KEY, code varchar(4) NOT NULL UNIQUE, n int NOT NULL,
    price numeric(4, 2) NOT NULL CHECK (price > 0), amount smallint NOT NULL CHECK (amount > 500),
    status text NOT NULL CHECK (status IN ('it''s open', 'closed')), mood mood NOT NULL,
    share percent NOT NULL, begins date NOT NULL, ends date NOT NULL, CHECK (ends > begins),
    tags text[] NOT NULL, moods mood[] NOT NULL, during tstzrange NOT NULL, at time NOT NULL,
    token uuid NOT NULL, body bytea NOT NULL, details jsonb NOT NULL, is_gift bool NOT NULL,
    part numeric(4, 4) NOT NULL, country text NOT NULL CHECK (length(country) = 2),
    "odd %:name" text NOT NULL
);
CREATE TABLE line (
    order_id int REFERENCES "order", n int, PRIMARY KEY (order_id, n)
);
CREATE TABLE part (
    order_id int NOT NULL, line int NOT NULL UNIQUE, before int REFERENCES part (line),
    FOREIGN KEY (order_id, line) REFERENCES line (order_id, n)
);
CREATE TABLE egg (id int PRIMARY KEY, hen_id int NOT NULL);
CREATE TABLE hen (id int PRIMARY KEY, egg_id int REFERENCES egg);
ALTER TABLE egg ADD FOREIGN KEY (hen_id) REFERENCES hen;
CREATE TABLE only_id (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
CREATE TABLE either (
    id serial, a int REFERENCES "order", b text, c int GENERATED ALWAYS AS (id * 2) STORED,
    CHECK (num_nonnulls(a, b) = 1)
);
CREATE TABLE stay (id serial, nights int4range NOT NULL, EXCLUDE USING gist (nights WITH &&));
CREATE TABLE queue (id serial, place int UNIQUE DEFERRABLE, name text UNIQUE);
CREATE SCHEMA ledger;
CREATE TABLE ledger.entry (order_id int NOT NULL REFERENCES "order" ON DELETE CASCADE)
"""


@pytest.fixture
async def tables(connection: AsyncConnection) -> AsyncConnection:
    for statement in TABLES.split(";\n"):
        await connection.exec_driver_sql(statement)
    return connection


@pytest.mark.parametrize("count", [2, 200])
async def test_every_kind_of_column_and_constraint_gets_rows(
    tables: AsyncConnection, count: int
) -> None:
    for first in (1, 1 + count):
        empty = await tables.run_sync(fill_tables, MetaData(), count=count, first=first)
        assert empty == {}

    names = ["api_token", '"order"', "line", "part", "egg", "hen", "either", "stay", "queue"]
    for name in (*names, "ledger.entry"):
        found = await tables.scalar(text(f"SELECT count(*) FROM {name}"))  # noqa: S608
        assert found == 2 * count, name


async def test_half_of_the_rows_have_null_where_it_is_allowed(tables: AsyncConnection) -> None:
    await tables.run_sync(fill_tables, MetaData(), count=4)

    query = text("SELECT count(*), count(last_used_at), count(created_at) FROM api_token")
    assert (await tables.execute(query)).one() == (4, 2, 4)


async def test_a_table_without_a_row_is_named_and_a_sample_helps(tables: AsyncConnection) -> None:
    await tables.execute(text("CREATE TABLE bank (iban text NOT NULL CHECK (iban ~ '^DE[0-9]+$'))"))

    empty = await tables.run_sync(fill_tables, MetaData())
    assert empty == {"bank": "no values were found that its constraints allow"}

    metadata = MetaData()
    Table("bank", metadata, Column("iban", String, info={"sample": "'DE' || n"}, primary_key=True))
    assert await tables.run_sync(fill_tables, metadata) == {}
    assert (await tables.scalars(text("SELECT iban FROM bank"))).all() == ["DE1", "DE2"]


CREATE = ("CREATE TABLE crate (id serial, name text NOT NULL)", "DROP TABLE crate")
FILL = "UPDATE crate SET kilos = 1; ALTER TABLE crate ALTER kilos SET NOT NULL"
FILLED = (f"ALTER TABLE crate ADD kilos int; {FILL}", "ALTER TABLE crate DROP kilos")


def write_revisions(folder: Path, *revisions: tuple[str, str]) -> ScriptDirectory:
    """Write revisions, an upgrade and a downgrade each, one after another."""
    for i, (upgrade, downgrade) in enumerate(revisions):
        lines = [
            "from alembic import op",
            f"revision, down_revision = 'r{i}', {f'r{i - 1}' if i else None!r}",
            *(
                f"def {name}(): [op.execute(each) for each in {statements.split('; ')!r}]"
                for name, statements in (("upgrade", upgrade), ("downgrade", downgrade))
            ),
        ]
        (folder / f"r{i}.py").write_text("\n".join(lines))
    return ScriptDirectory(ALEMBIC_DIR, version_locations=[folder])


async def test_revisions_that_care_for_rows_pass(tmp_path: Path, fresh_database: str) -> None:
    script = write_revisions(tmp_path, CREATE, FILLED)
    async with connect() as connection:
        await connection.run_sync(migrate_with_rows, script, MetaData())

        assert await connection.scalar(text("SELECT count(*) FROM crate")) == 6


MOODS = """CREATE TYPE mood AS ENUM ('calm', 'wild'); CREATE TABLE crate (
    id serial, mood mood NOT NULL DEFAULT 'calm', label text NOT NULL,
    grams int CHECK (grams > 500), state text CHECK (state IN ('open', 'shut')))"""


def replace_moods(*members: str) -> tuple[str, ...]:
    listed = ", ".join(f"'{each}'" for each in members)
    return (
        "ALTER TABLE crate ALTER mood DROP DEFAULT",
        "ALTER TYPE mood RENAME TO mood_before",
        f"CREATE TYPE mood AS ENUM ({listed})",
        "ALTER TABLE crate ALTER mood TYPE mood USING mood::text::mood",
        f"ALTER TABLE crate ALTER mood SET DEFAULT '{members[0]}'",
        "DROP TYPE mood_before",
    )


def replace_checks(grams: int, *states: str) -> tuple[str, ...]:
    listed = ", ".join(f"'{each}'" for each in states)
    return (
        "ALTER TABLE crate DROP CONSTRAINT crate_grams_check, DROP CONSTRAINT crate_state_check",
        f"ALTER TABLE crate ADD CHECK (grams > {grams}), ADD CHECK (state IN ({listed}))",
    )


async def test_a_revision_that_allows_more_can_be_reverted(
    tmp_path: Path, fresh_database: str
) -> None:
    """A member, a value of a check, NULL: rows that were there before have none of them."""
    more = (
        *replace_moods("new", "calm", "wild"),
        *replace_checks(100, "new", "open", "shut"),
        "ALTER TABLE crate ALTER label DROP NOT NULL",
    )
    less = (
        *replace_moods("calm", "wild"),
        *replace_checks(500, "open", "shut"),
        "ALTER TABLE crate ALTER label SET NOT NULL",
    )
    script = write_revisions(
        tmp_path,
        (MOODS, "DROP TABLE crate; DROP TYPE mood"),
        ("; ".join(more), "; ".join(less)),
    )
    async with connect() as connection:
        await connection.run_sync(migrate_with_rows, script, MetaData())

        rows = await connection.execute(text("SELECT mood::text, label FROM crate ORDER BY id"))
        assert [tuple(row) for row in rows] == [
            ("calm", "row 3"),
            ("calm", "row 4"),
            ("calm", "row 5"),
            ("wild", "row 6"),
            ("new", "row 7"),
            ("new", None),
        ]


@pytest.mark.parametrize(
    ("upgrade", "downgrade", "problem"),
    [
        (
            "ALTER TABLE crate ADD kilos int NOT NULL",
            "ALTER TABLE crate DROP kilos",
            r"r1.py: upgrade\(\) fails where .*kilos.*\n.*Give a new column a server_default",
        ),
        (
            "ALTER TABLE crate DROP name",
            "ALTER TABLE crate ADD name text NOT NULL",
            r"r1.py: downgrade\(\) fails where .*name.*\n.*Give a new column a server_default",
        ),
        (
            "ALTER TABLE crate ALTER name TYPE int USING name::int",
            "ALTER TABLE crate ALTER name TYPE text",
            r"r1.py: upgrade\(\) fails where .*row 3.*\n.*Change the rows first.*sample",
        ),
        (
            "ALTER TABLE crate ADD kilos int",
            "SELECT 1",
            r"r1.py: downgrade\(\) does not revert\ncolumns: crate.kilos",
        ),
    ],
    ids=["not-null", "not-null-again", "type", "leftover"],
)
async def test_a_revision_that_rows_break_is_named_with_the_remedy(
    tmp_path: Path, fresh_database: str, upgrade: str, downgrade: str, problem: str
) -> None:
    script = write_revisions(tmp_path, CREATE, (upgrade, downgrade))
    async with connect() as connection:
        with pytest.raises(pytest.fail.Exception, match=problem):
            await connection.run_sync(migrate_with_rows, script, MetaData())


async def test_a_model_without_a_row_fails(tmp_path: Path, fresh_database: str) -> None:
    table = (
        "CREATE TABLE bank (iban text CHECK (iban IS NULL AND iban IS NOT NULL))",
        "DROP TABLE bank",
    )
    script = write_revisions(tmp_path, table)
    metadata = MetaData()
    Table("bank", metadata, Column("iban", String, primary_key=True))
    async with connect() as connection:
        with pytest.raises(
            pytest.fail.Exception, match=r"a sample: .*\nbank: no values were found"
        ):
            await connection.run_sync(migrate_with_rows, script, metadata)
