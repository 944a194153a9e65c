"""PostgreSQL, Valkey and PgBouncer, as a rendered project starts them."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.project import Project, bare_environment

PROGRAM = Path(__file__).parent / "in_project" / "servers.py"
STOP_SECONDS = 30


@dataclass(frozen=True)
class Servers:
    """Where the servers are."""

    direct: str
    """URL of the database."""
    redis: str
    pooler: str | None = None
    """URL of the same database behind PgBouncer in transaction mode, where that is installed."""


@contextmanager
def running_servers(project: Project) -> Iterator[Servers]:
    """Empty servers, whose database is then migrated."""
    process = subprocess.Popen(
        [project.python, PROGRAM],
        cwd=project.folder,
        env=bare_environment() | {"PYTHONPATH": str(project.folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the servers' process has no pipes")
    try:
        yield Servers(**json.loads(process.stdout.readline()))
    finally:
        process.stdin.close()
        process.wait(STOP_SECONDS)
        process.stdout.close()
