"""A project as a user has one: processes that hold its servers, and what can be seen of them."""

import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg2
import redis

from app.core.config import BASE_DIR
from kit.devservices import Addresses
from kit.devservices._data import addresses_in
from kit.devservices._servers import Identity

PYTHON_PATH = f"{BASE_DIR}:{sysconfig.get_path('purelib')}"
"""What another user's Python needs to find `kit.devservices` and the wheels with the servers."""

HOLD_SERVERS = """
import sys
from pathlib import Path
from kit.devservices import DevServicesError, lease
try:
    held = lease(Path(sys.argv[1]), postgres="postgres" in sys.argv, redis="redis" in sys.argv)
except DevServicesError as error:
    sys.exit(f"refused: {error}")
print("held", flush=True)
sys.stdin.read()
held.release()
"""


def wait_until(condition: Callable[[], object], seconds: float = 15) -> None:
    """Wait for something that happens in other processes."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {seconds} seconds"
        time.sleep(0.02)


def gone(*processes: psutil.Process) -> bool:
    """Whether they have ended; a zombie only waits for its parent to take notice."""
    return not any(
        process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes
    )


class Holder:
    """A process that has the servers of a project running."""

    def __init__(
        self, project: "Project", servers: tuple[str, ...], environment: dict[str, str]
    ) -> None:
        self.process = subprocess.Popen(
            [project.python, "-c", HOLD_SERVERS, str(project.directory), *servers],
            cwd="/",
            env={"PYTHONPATH": PYTHON_PATH, "PATH": os.environ["PATH"], **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **project.identity,
        )

    def wait_until_held(self) -> "Holder":
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n", self.process.communicate()[1]
        return self

    def refusal(self) -> str:
        """What the process was refused with."""
        _, errors = self.process.communicate(timeout=60)
        assert self.process.returncode == 1
        assert "Traceback" not in errors
        assert isinstance(errors, str)
        return errors

    def release(self) -> None:
        self.process.communicate(timeout=30)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@dataclass(frozen=True)
class Project:
    """A directory, the user whose project it is, and that user's Python."""

    directory: Path
    identity: Identity
    python: str = sys.executable

    @property
    def data(self) -> Path:
        return self.directory / ".data"

    @property
    def addresses(self) -> Addresses:
        return addresses_in(self.data)

    def start(self, *servers: str, **environment: str) -> Holder:
        """Start a process that holds the servers; it may not hold them yet."""
        return Holder(self, servers or ("postgres", "redis"), environment)

    def hold(self, *servers: str, **environment: str) -> Holder:
        """A process that holds the servers."""
        return self.start(*servers, **environment).wait_until_held()

    def keeper(self) -> psutil.Process:
        [keeper] = [
            process
            for process in psutil.process_iter(["cmdline"])
            if "kit.devservices._keeper" in (process.info["cmdline"] or [])
            and str(self.data) in process.info["cmdline"]
        ]
        return keeper

    def servers(self) -> dict[str, psutil.Process]:
        """The servers that run, by name."""
        return {process.name(): process for process in self.keeper().children()}

    def processes(self) -> list[psutil.Process]:
        """The keeper, and all that it started."""
        keeper = self.keeper()
        return [keeper, *keeper.children(recursive=True)]

    def connect(self) -> "psycopg2.extensions.connection":
        return psycopg2.connect(f"{self.addresses.postgres.url}/postgres")

    def redis(self) -> "redis.Redis":
        return redis.Redis.from_url(self.addresses.redis.url)

    def query(self, statement: str) -> list[tuple[object, ...]]:
        connection = self.connect()
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()


def kill_hard(process: psutil.Process) -> None:
    """As the kernel does when memory runs out."""
    process.send_signal(signal.SIGKILL)
