"""Docker's own Engine and Compose, on a machine of their own that Linux's namespaces make.

Its network, mounts and processes are gone with the tests, however they end. No registry is asked:
images come from files.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.containers import PATIENCE, namespaces
from tests.installed_servers import installed_program, with_us

ADDRESS = "10.77.0.1"
"""Of the machine, which its containers reach it by; it exists in the machine's network alone."""

CGROUPS = Path("/sys/fs/cgroup")
"""Where the Engine leaves empty folders for its containers' limits."""

LIBC = ctypes.CDLL(None, use_errno=True)


class Machine:
    """A machine that runs Docker; its files are those of this one."""

    def __init__(self, folder: Path, first: int) -> None:
        """Start the Engine inside of the namespaces of the process `first`."""
        self.folder = folder
        self._network = Path(f"/proc/{first}/ns/net")
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

    def run(self, *command: str, folder: Path | None = None) -> str:
        """Run a command to its end, which has to be a good one; what it writes to stdout."""
        done = self.outcome(*command, folder=folder)
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-4000:]}{done.stderr}"
        return done.stdout

    def outcome(
        self, *command: str, folder: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command likewise, however it ends."""
        return subprocess.run(
            command,
            cwd=folder or self.folder,
            env=os.environ | self.environment,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The machine's network, for this thread and for what it starts meanwhile."""
        with Path("/proc/thread-self/ns/net").open() as ours, self._network.open() as its:
            _enter(its.fileno())
            try:
                yield
            finally:
                _enter(ours.fileno())

    def wait(self) -> None:
        """Wait for the end of the Engine, which that of the namespaces brings."""
        self._engine.wait(60)


def _compose() -> str:
    """Docker's own Compose, from its package of PyPI."""
    found = shutil.which("docker-compose")
    if found is None:
        raise FileNotFoundError("docker-compose is not on the path; `make setup` installs it")
    return found


def _enter(network: int) -> None:
    """Move this thread, as `os.setns` does since Python 3.12."""
    if LIBC.setns(network, 0):
        raise OSError(ctypes.get_errno(), "setns")


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
