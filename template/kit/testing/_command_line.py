"""The command line, as its user has it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from kit.settings import BASE_DIR, settings


class Outcome(NamedTuple):
    """How a command ended and what it said."""

    status: int
    output: str


def environment_for(database: str, **overrides: str) -> dict[str, str]:
    """The environment of a process whose settings name another database of the test server."""
    url = settings.model_copy(update={"POSTGRES_DB": database}).DATABASE_URL
    return {**os.environ, "DATABASE_URL": url, "POSTGRES_DB": database, **overrides}


def run_module(
    database: str,
    *arguments: str,
    project: Path = BASE_DIR,
    answer: str = "",
    **overrides: str,
) -> Outcome:
    """Run `python -m …` in a project, with an answer on its standard input."""
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
