"""Rows in a service's database: `fill` puts one into each table, `show` prints all as JSON.

Runs in a project of any release, with its root as working folder.
"""

import json
import sys

from app.core.database import sync_engine
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

try:
    from kit.process import start_local_services
except ModuleNotFoundError:  # before 0.5.0
    from app.core.local_services import start_local_services

VALUES = {
    "bool": "true",
    "bytea": "'\\x00'",
    "daterange": "'[2026-01-01,2026-01-03)'",
    "int4": "1",
    "int8": "1",
    "jsonb": """'{"kept": true}'""",
    "text": "'kept'",
    "_text": "'{kept}'",
    "timestamptz": "'2026-01-01 12:00:00+00'",
    "uuid": "'00000000-0000-4000-8000-000000000001'",
    "varchar": "left('kept', {length})",
}
"""What a column of each type holds. Keys count from 1, so a foreign key of 1 leads somewhere."""

TABLES = """
    SELECT tablename FROM pg_tables
    WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY 1
"""

COLUMNS = """
    SELECT column_name, udt_name, coalesce(character_maximum_length, 100)
    FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name = :table AND column_default IS NULL
      AND is_identity = 'NO'
"""


def fill(connection: Connection) -> None:
    """Put a row into each table, those that others refer to first."""
    waiting = tables(connection)
    for _ in range(len(waiting)):
        waiting = [table for table in waiting if not inserted(connection, table)]
    if waiting:
        raise SystemExit(f"no row could be put into {', '.join(waiting)}")


def tables(connection: Connection) -> list[str]:
    return list(connection.scalars(text(TABLES)))


def inserted(connection: Connection, table: str) -> bool:
    """Put a row into a table; False where it refers to one that has none yet."""
    columns = connection.execute(text(COLUMNS), {"table": table}).all()
    names = ", ".join(f'"{name}"' for name, _, _ in columns)
    values = ", ".join(VALUES[kind].replace("{length}", str(length)) for _, kind, length in columns)
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f'INSERT INTO "{table}" ({names}) VALUES ({values})')  # noqa: S608
    except IntegrityError as error:
        if "foreign key" in str(error):
            return False
        raise
    return True


def rows(connection: Connection) -> dict[str, list[dict[str, object]]]:
    """All rows of each table."""
    queries = {table: f'SELECT to_jsonb(t) FROM "{table}" t' for table in tables(connection)}  # noqa: S608
    return {table: list(connection.scalars(text(query))) for table, query in queries.items()}


start_local_services()
with sync_engine.begin() as connection:
    if sys.argv[1] == "fill":
        fill(connection)
    print(json.dumps(rows(connection)))
