"""Docker's own Engine and Compose, on a machine of their own that Linux's namespaces make.

Its network, mounts and processes are gone with the tests, however they end. No registry is asked:
images come from files.
"""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.containers import PATIENCE, Commands, namespaces
from tests.installed_servers import installed_program, with_us

ADDRESS = "10.77.0.1"
"""Of the machine, which its containers reach it by; it exists in the machine's network alone."""

CGROUPS = Path("/sys/fs/cgroup")
"""Where the Engine leaves empty folders for its containers' limits."""


class Machine(Commands):
    """A machine that runs Docker; its files are those of this one."""

    def __init__(self, folder: Path, first: int) -> None:
        """Start the Engine inside of the namespaces of the process `first`."""
        self.folder = folder
        self.first = first
        enter = ["nsenter", f"--target={first}", "--mount", "--pid", "--net"]
        prepare = (
            'mount -t tmpfs none /run; ip link set lo up; ip address add $0/32 dev lo; exec "$@"'
        )
        socket = f"unix://{folder}/docker.sock"
        files = [f"--data-root={folder}/storage", f"--exec-root={folder}/run"]
        # Lowering it needs CAP_SYS_RESOURCE.
        options = [f"--host={socket}", *files, f"--pidfile={folder}/pid", "--oom-score-adjust=0"]
        with (folder / "log").open("w") as log:
            self._engine = subprocess.Popen(
                [*with_us("TERM"), *enter, "sh", "-c", prepare, ADDRESS, "dockerd", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        plugin = folder / "client" / "cli-plugins" / "docker-compose"
        plugin.parent.mkdir(parents=True)
        plugin.symlink_to(_compose())
        self.environment = {"DOCKER_HOST": socket, "DOCKER_CONFIG": str(folder / "client")}
        deadline = time.monotonic() + PATIENCE
        while self.outcome("docker", "version").returncode:
            alive = self._engine.poll() is None and time.monotonic() < deadline
            assert alive, (folder / "log").read_text()
            time.sleep(0.1)

    def prefix(self, folder: Path) -> list[str]:
        """Into the folder: the client finds the machine by its environment."""
        return ["env", f"--chdir={folder}"]

    def wait(self) -> None:
        """Wait for the end of the Engine, which that of the namespaces brings."""
        self._engine.wait(60)


def _compose() -> str:
    """Docker's own Compose, from its package of PyPI."""
    found = shutil.which("docker-compose")
    if found is None:
        raise FileNotFoundError("docker-compose is not on the path; `make setup` installs it")
    return found


@contextmanager
def docker_machine() -> Iterator[Machine]:
    """A machine with Docker; skips the test, or fails it in CI, where a program is missing."""
    for program in ("dockerd", "docker"):
        installed_program(program, "docker.io")
    with tempfile.TemporaryDirectory(prefix="groundwork-docker-") as created:
        folder = Path(created)
        (folder / "storage").mkdir()
        with namespaces(folder, "--net") as first:
            machine = Machine(folder, first)
            yield machine
        machine.wait()
    for left in CGROUPS.glob("*/docker"):
        with suppress(OSError):  # another Engine's, with containers in it
            left.rmdir()
