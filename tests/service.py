"""A rendered service as its user has it: one project, set up once for all who test it."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import pytest

from tests.conftest import copy_template
from tests.installed_servers import port_is_free, with_us
from tests.repositories import commit_all


class Service:
    """A rendered project whose make targets run as one user, in an environment that is bare."""

    def __init__(
        self, folder: Path, environment: dict[str, str] | None = None, user: int | None = None
    ) -> None:
        """`user` is the id of another user than ours; `environment` adds to what is passed on."""
        self.folder = folder
        self.user = user
        if folder.exists() and user is None:
            reserve_addresses(folder)
        self.environment = {
            "PATH": f"{folder.parent / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder.parent),
            "LANG": "C.UTF-8",
            "UV_PYTHON": python_for(user),
            "UV_PYTHON_DOWNLOADS": "never",
            **{name: value for name, value in os.environ.items() if name in PASSED_ON},
            **(environment or {}),
        }

    def make(self, *arguments: str, status: int = 0) -> str:
        """Run make; its output, which a failing test shows."""
        return self.run("make", *arguments, status=status)

    def run(self, *command: str, status: int = 0) -> str:
        """Run a command in the project as its user; it has to end with the status."""
        done = self.outcome(*command)
        print(done.stdout)
        assert done.returncode == status, f"{' '.join(command)} ended with {done.returncode}"
        return done.stdout

    def outcome(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command likewise; what it printed, and how it ended."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


PORTS = range(10_000, 20_000)
"""Apart from those that a service draws of itself, and that systems give outgoing connections."""


def reserve_addresses(project: Path) -> None:
    """Give a project addresses that no other of this test run has, unless it has some.

    A service draws two of 12,768 ports that are free at that moment. Hundreds are tested here, and
    between two commands of one, which has no server running then, another may draw its port.
    """
    path = project / ".data" / "services.json"
    if not path.exists():
        path.parent.mkdir(mode=0o711, exist_ok=True)
        (path.parent / ".gitignore").write_text("*\n")
        logins = {"postgres": "postgres", "redis": "default"}
        path.write_text(
            json.dumps(
                {
                    name: {
                        "port": next(_ports_of_this_worker),
                        "password": secrets.token_hex(16),
                        "username": username,
                        "host": "127.0.0.1",
                    }
                    for name, username in logins.items()
                }
            )
        )
        path.chmod(0o600)


def _free_ports() -> Iterator[int]:
    """Those of this worker of pytest-xdist, each once before any comes again."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = PORTS[worker :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
    first = secrets.randbelow(len(ports))  # so that two test runs on a machine hardly meet
    return filter(port_is_free, cycle([*ports[first:], *ports[:first]]))


_ports_of_this_worker = _free_ports()


class Development:
    """`make dev`, under way."""

    def __init__(self, service: Service) -> None:
        """Start it; `wait_until_ready` tells what it has printed by then."""
        self.process = subprocess.Popen(
            [*with_us("INT"), "make", "dev"],
            cwd=service.folder,
            env=service.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait_until_ready(self) -> str:
        """All lines up to the one that says how to stop it."""
        lines = []
        assert self.process.stdout
        for line in self.process.stdout:
            lines.append(line)
            if "Ctrl-C stops it all" in line:
                return "".join(lines)
        pytest.fail("make dev ended:\n" + "".join(lines))

    def interrupt(self) -> int:
        """Press Ctrl-C; the status that it ends with."""
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.communicate(timeout=30)
        return self.process.returncode


def answer_of(
    url: str, body: dict[str, str] | None = None, token: str = "", seconds: float = 10
) -> tuple[int, str]:
    """Status and text that a GET, or a POST of a JSON body, is answered with in time."""
    request = urllib.request.Request(  # noqa: S310 (our own server)
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


PASSED_ON = {
    name
    for name in os.environ
    if name == "CI" or name.startswith(("UV_", "PIP_", "SSL_")) or name.lower().endswith("_proxy")
} - {"UV_PROJECT_ENVIRONMENT", "UV_RUN_RECURSION_DEPTH"}
"""How this machine reaches the package index is its own business, and whether it is CI."""


def python_for(user: int | None) -> str:
    """A Python of 3.11 or newer that the user may run: ours may lie in a home that is closed."""
    ours = Path(sys.executable).resolve()
    closed = [folder for folder in ours.parents if not folder.stat().st_mode & 0o001]
    if user is None or not closed:
        return str(ours)
    for name in ("python3.13", "python3.12", "python3.11"):
        if found := shutil.which(name, path="/usr/local/bin:/usr/bin"):
            return found
    pytest.skip(f"{closed[0]} is closed to others, and no other Python 3.11 or newer is installed")


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, unlike pytest's.

    There the database of a project lies in the project also when root runs it, and goes with it.
    """
    with tempfile.TemporaryDirectory(prefix="groundwork-") as created:
        path = Path(created)
        path.chmod(0o755)
        yield path


@pytest.fixture
def reader_folder() -> Iterator[Path]:
    """A folder for whoever follows the documentation."""
    with open_folder() as path:
        yield path


@pytest.fixture(scope="session")
def service_folder() -> Iterator[Path]:
    """A folder that every user can reach, with uv in its `bin`."""
    with open_folder() as path:
        put_uv_into(path)
        yield path


def put_uv_into(folder: Path) -> None:
    """Put uv into the `bin` of a folder, where the projects in it find it.

    Raises:
        FileNotFoundError: when there is none on the path.
    """
    uv = shutil.which("uv")
    if uv is None:
        raise FileNotFoundError("uv is not on the path; `make setup` puts it into .tools/bin")
    (folder / "bin").mkdir()
    shutil.copy2(uv, folder / "bin" / "uv")


@pytest.fixture(scope="session")
def service(template: Path, service_folder: Path) -> Service:
    """The default project with the kit's tests beside its own, committed and set up."""
    project = copy_template(template, service_folder / "project", kit_tests=True)
    commit_all(project, "Start")
    service = Service(project, {"UV_CACHE_DIR": cache_of_uv()})
    service.make("setup")
    return service


def cache_of_uv() -> str:
    """Where uv keeps what it downloaded before, in spite of the changed home."""
    asked = subprocess.run(["uv", "cache", "dir"], check=True, capture_output=True, text=True)
    return asked.stdout.strip()
