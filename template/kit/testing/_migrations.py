"""Run Alembic as a command, and compare a database's objects."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection

from kit.migrations import compare_with_models, load_metadata, read_objects
from kit.settings import BASE_DIR, settings


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
    database: str,
    *arguments: str,
    project: Path = BASE_DIR,
    answer: str = "",
    **overrides: str,
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
