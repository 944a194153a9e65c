"""Run Alembic as a command, and compare a database's objects."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, MetaData
from sqlalchemy.exc import DBAPIError

from kit.migrations import (
    compare_with_models,
    load_metadata,
    missing_revisions,
    read_objects,
    run_revision,
)
from kit.settings import BASE_DIR, settings
from kit.testing._rows import RowMaker, fill_tables

SAMPLE = """{"info": {"sample": "'DE' || n"}}"""
HOW_TO_SAMPLE = f"`Field(sa_column_kwargs={SAMPLE})`, an SQL expression of the row's number n"

REMEDIES = {
    "23502": "Give a new column a server_default, or fill it before it becomes NOT NULL.",
    "other": "Change the rows first, with op.execute(). If only made-up rows are like this, give "
    f"the column's model a sample: {HOW_TO_SAMPLE}.",
}
"""What helps against an error, by its SQLSTATE code."""


def migrate_with_rows(connection: Connection, script: ScriptDirectory, metadata: MetaData) -> None:
    """Apply each revision, revert it, and apply it again, with made-up rows in every table.

    Fails when a revision does not work with rows, when a downgrade does not restore the tables, and
    when there are no rows of a model.
    """
    for i, revision in enumerate(missing_revisions(script, [])):
        before, earlier = catalogue(connection), RowMaker(connection, metadata)
        connection.commit()
        _run_with_rows(connection, script, revision)
        after = catalogue(connection)
        # No downgrade can keep what only the upgrade allows, such as a member or NULL.
        fill_tables(connection, metadata, first=4 * i + 1, fit=earlier)
        connection.commit()
        _run_with_rows(connection, script, revision, downgrade=True)
        _compare(revision, "downgrade() does not revert", before, catalogue(connection))
        connection.commit()
        _run_with_rows(connection, script, revision)
        _compare(revision, "after a downgrade, upgrade() differs in", after, catalogue(connection))
        empty = fill_tables(connection, metadata, first=4 * i + 3)
        connection.commit()
    if unfilled := [f"{name}: {empty[name]}" for name in empty.keys() & metadata.tables.keys()]:
        lines = [f"No row could be made up. Give a column a sample: {HOW_TO_SAMPLE}.", *unfilled]
        pytest.fail("\n".join(lines), pytrace=False)


def _run_with_rows(
    connection: Connection, script: ScriptDirectory, revision: Script, *, downgrade: bool = False
) -> None:
    try:
        run_revision(connection, script, revision, downgrade=downgrade)
    except DBAPIError as error:
        function = "downgrade" if downgrade else "upgrade"
        remedy = REMEDIES.get(getattr(error.orig, "pgcode", ""), REMEDIES["other"])
        problem = f"{function}() fails where tables have rows"
        pytest.fail(f"{revision.path}: {problem}: {error.orig}\n{remedy}", pytrace=False)


def _compare(revision: Script, problem: str, expected: set[str], found: set[str]) -> None:
    if lines := sorted(expected ^ found):
        pytest.fail("\n".join([f"{revision.path}: {problem}", *lines]), pytrace=False)


def catalogue(connection: Connection) -> set[str]:
    """List every table, column, constraint, index and so on, a line each; without Alembic's own."""
    return set(read_objects(connection))


def differences(connection: Connection) -> list[str]:
    """List what differs between a migrated database and the models.

    `make db-migrate` writes what is missing, or says what to write by hand.
    """
    return compare_with_models(connection, load_metadata())


class Outcome(NamedTuple):
    """A command's exit status and its output."""

    status: int
    output: str


def environment_for(database: str, **overrides: str) -> dict[str, str]:
    """Environment of a process that uses another database of the test server."""
    url = settings.model_copy(update={"POSTGRES_DB": database}).DATABASE_URL
    return {**os.environ, "DATABASE_URL": url, "POSTGRES_DB": database, **overrides}


def run_module(
    database: str, *arguments: str, project: Path = BASE_DIR, answer: str = "", **overrides: str
) -> Outcome:
    """Run `python -m …` in a project, with text on its standard input."""
    process = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=project,
        env=environment_for(database, **overrides),
        input=answer,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return Outcome(process.returncode, process.stdout)


def alembic(database: str, *arguments: str, project: Path = BASE_DIR, **overrides: str) -> Outcome:
    """Run `alembic …` in a project."""
    return run_module(database, "alembic", *arguments, project=project, **overrides)
