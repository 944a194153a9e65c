"""Several machines inside of one: hosts with names, addresses and a switch between them.

Each host is a network and a host name of its own, in Linux's namespaces; files are shared. Nobody
has to be root, nothing of it is seen from outside, and all of it is gone with the processes inside,
however a test ends: each ends with the one that started it.
"""

import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

SUBNET = "10.77.0"
"""Addresses of this private range exist inside of one test's network alone."""

PATIENCE = 60.0
"""Seconds; much longer than anything that is waited for takes, for a machine that is busy."""


class Process:
    """A program on a host, and what it says."""

    def __init__(self, command: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
        """Start it."""
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process's id, the same on every host."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def write(self, text: str) -> None:
        """Give it something to read."""
        assert self._process.stdin
        self._process.stdin.write(text)
        self._process.stdin.flush()

    def wait_for(self, text: str, *, after: int = 0, seconds: float = PATIENCE) -> str:
        """The first line with this text, from line number `after` on, as soon as it is written."""
        return self.wait_for_any(text, after=after, seconds=seconds)

    def wait_for_any(self, *texts: str, after: int = 0, seconds: float = PATIENCE) -> str:
        """The first line with one of these texts; see `wait_for`."""

        def found() -> str | None:
            lines = self.lines[after:]
            return next((line for line in lines if any(text in line for text in texts)), None)

        with self._changed:
            self._changed.wait_for(lambda: found() or not self._reader.is_alive(), timeout=seconds)
            line = found()
        assert line is not None, f"none of {texts} was written:\n" + "\n".join(self.lines)
        return line

    def exit_status(self, seconds: float = PATIENCE) -> int:
        """The status with which it ended by itself."""
        status = self._process.wait(seconds)
        self._reader.join()
        return status

    def stop(self) -> None:
        """Ask it to end, as a supervisor does."""
        if self.is_running:
            self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()
        self._close()

    def kill(self) -> None:
        """End it without asking."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def _close(self) -> None:
        self._reader.join(5)
        assert self._process.stdin
        with suppress(BrokenPipeError):
            self._process.stdin.close()


class Host:
    """A machine of the network; `Network.host` makes it."""

    def __init__(self, network: "Network", name: str, address: str) -> None:
        """Switch it on, with its cable plugged in."""
        self.name = name
        self.address = address
        self._network = network
        self._processes: list[Process] = []
        self._holder = network.new_holder(name)
        network.connect(self._holder.pid, name)
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    def start(
        self, *command: str, folder: Path | None = None, environment: dict[str, str] | None = None
    ) -> Process:
        """Start a program here."""
        process = Process(self._inside(command), folder or Path("/"), environment or _environment())
        self._processes.append(process)
        return process

    def run(
        self, *command: str, folder: Path | None = None, environment: dict[str, str] | None = None
    ) -> str:
        """Run a program here to its end, which has to be a good one; what it writes to stdout."""
        done = subprocess.run(
            self._inside(command),
            cwd=folder or Path("/"),
            env=environment or _environment(),
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        said = f"{done.stdout}{done.stderr}"
        assert done.returncode == 0, f"{self.name}: {' '.join(command)} failed:\n{said}"
        return done.stdout

    def unplug(self) -> None:
        """Cut the cable behind the switch: nothing gets through, and neither side is told."""
        self._network.run("ip", "link", "set", self.name, "nomaster")

    def plug_in(self) -> None:
        """Mend the cable."""
        self._network.run("ip", "link", "set", self.name, "master", "switch")

    def lose_power(self) -> None:
        """End all at once, so that nobody hears of it: no process here says good-bye."""
        self.unplug()
        self.close()

    def close(self) -> None:
        """End what runs here, and with it the host."""
        for process in self._processes:
            if process.is_running:
                process.kill()
        self._holder.kill()

    def _inside(self, command: Sequence[str]) -> list[str]:
        return [*_enter(self._holder.pid), "setpriv", "--pdeathsig", "KILL", "--", *command]


class Network:
    """A switch, to which hosts are connected."""

    def __init__(self) -> None:
        """Make the switch."""
        self._hosts: list[Host] = []
        # `cat` ends with its input, which ends with this process, whatever happens to it.
        new = ("unshare", "--user", "--map-root-user", "--net", "--uts")
        self._switch = Process([*new, "cat"], Path("/"), _environment())
        _wait_until_it_echoes(self._switch)
        self.run("ip", "link", "add", "switch", "type", "bridge")
        self.run("ip", "link", "set", "switch", "up")

    def host(self, name: str, number: int) -> Host:
        """A machine of this name, of at most 15 characters, with this last part of its address."""
        host = Host(self, name, f"{SUBNET}.{number}")
        self._hosts.append(host)
        return host

    def new_holder(self, name: str) -> Process:
        """A process that holds the namespaces of a new host."""
        new = ["unshare", "--net", "--uts", "sh", "-c", f"hostname {name} && exec cat"]
        enter = ["nsenter", "--target", str(self._switch.pid), "--user", "--preserve-credentials"]
        holder = Process([*enter, *new], Path("/"), _environment())
        _wait_until_it_echoes(holder)
        return holder

    def connect(self, pid: int, name: str) -> None:
        """Lay a cable from the switch to the host that a process holds."""
        peer = ("peer", "name", "eth0", "netns", str(pid))
        self.run("ip", "link", "add", "name", name, "type", "veth", *peer)
        self.run("ip", "link", "set", name, "master", "switch", "up")

    def run(self, *command: str) -> None:
        """Run a command at the switch."""
        command = (*_enter(self._switch.pid), *command)
        done = subprocess.run(
            command, check=False, env=_environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stderr}"

    def close(self) -> None:
        """End all hosts and what runs on them."""
        for host in self._hosts:
            host.close()
        self._switch.kill()


@contextmanager
def network() -> Iterator[Network]:
    """A network without hosts; skips the test, or fails it in CI, where there can be none."""
    probe = ("unshare", "--user", "--map-root-user", "--net", "ip", "link", "add", "type", "bridge")
    try:
        done = subprocess.run(
            probe, check=False, env=_environment(), capture_output=True, text=True
        )
        problem = done.stderr.strip() if done.returncode else ""
    except FileNotFoundError as error:
        problem = f"{error.filename} is not installed: apt-get install util-linux"
    if problem:
        message = (
            f"no network namespaces here ({problem}). They need `ip` (apt-get install iproute2), "
            "and a kernel that lets its users have namespaces (on Ubuntu, sysctl "
            "kernel.apparmor_restrict_unprivileged_userns=0)"
        )
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    made = Network()
    try:
        yield made
    finally:
        made.close()


def _enter(pid: int) -> list[str]:
    spaces = ("--user", "--preserve-credentials", "--net", "--uts")
    return ["nsenter", "--target", str(pid), *spaces, "--"]


def _environment() -> dict[str, str]:
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
    }


def _wait_until_it_echoes(process: Process) -> None:
    process.write("ready\n")
    process.wait_for("ready")
