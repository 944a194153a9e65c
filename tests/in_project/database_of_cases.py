"""The project's embedded servers, with a database for whoever asks and its rows for who compares.

Prints the addresses as one line of JSON, then answers each line of its input with another:
`create <name>` makes a database, `rows <name>` shows all rows of all its tables, `busy <name>` the
connections to it that are within a transaction or a statement. Ends when its input closes.
"""

import json
import sys
from typing import Any

import psycopg2
from kit.devservices import temporary_servers
from psycopg2.extensions import connection
from psycopg2.sql import SQL, Identifier, Literal

TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
AND c.relname NOT IN ('admin_user', 'api_token', 'audit_entry') ORDER BY 1, 2
"""
BUSY = "SELECT count(*) FROM pg_stat_activity WHERE datname = {} AND state <> 'idle'"


def main() -> None:
    """Serve until the input closes."""
    with temporary_servers() as addresses:
        print(json.dumps([addresses.postgres.url, addresses.redis.url]), flush=True)
        for line in sys.stdin:
            command, name = line.split()
            database = name if command == "rows" else "postgres"
            opened = psycopg2.connect(f"{addresses.postgres.url}/{database}")
            opened.autocommit = True
            print(json.dumps(answer(opened, command, name)), flush=True)
            opened.close()


def answer(opened: connection, command: str, name: str) -> Any:  # noqa: ANN401 (JSON)
    """What a command is answered with."""
    with opened.cursor() as cursor:
        if command == "create":
            cursor.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
            return name
        if command == "busy":
            cursor.execute(SQL(BUSY).format(Literal(name)))
            return cursor.fetchone()[0]
        cursor.execute(TABLES)
        found: dict[str, list[str]] = {}
        for schema, table in cursor.fetchall():
            rows = SQL("SELECT t::text FROM {} t ORDER BY 1").format(Identifier(schema, table))
            cursor.execute(rows)
            found[table] = [row for (row,) in cursor.fetchall()]
        return found


if __name__ == "__main__":
    main()
