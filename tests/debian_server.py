"""A server with Debian 13, fresh from its packages, on which systemd is the first process.

Linux's namespaces make it: its processes, files, network and name are its own, and gone with the
tests, however they end. What it installs it gets as this machine does.
"""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.containers import PATIENCE, SYSTEM_CERTIFICATES, Commands, impossible
from tests.installed_servers import installed_program, with_us
from tests.service import PASSED_ON, cache_of_uv

PROGRAMS = {"mmdebstrap": "mmdebstrap", "ssh": "openssh-client", "ip": "iproute2"}
"""What this needs besides Linux and root: each program's name, and Debian's package of it."""

INSTALL = """
mount -t tmpfs -o mode=755,size=4g none root
apt-config dump Acquire::http > apt.conf
apt-config dump Acquire::https >> apt.conf
TMPDIR=$PWD/root mmdebstrap --quiet --variant=apt --include=systemd-sysv,openssh-server \\
    --aptopt=apt.conf --aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io \\
    --dpkgopt=path-exclude=/usr/share/doc/* --dpkgopt=path-exclude=/usr/share/man/* \\
    --dpkgopt=path-exclude=/usr/share/locale/* trixie root/server
"""
"""What a provider does for a server; without documentation, and without care for a power cut."""

CGROUP = """
mount -t cgroup2 none cgroup
mkdir cgroup/$1
echo $$ > cgroup/$1/cgroup.procs
umount cgroup
"""
"""One of its own, for the units of the server."""

BOOT = """
ip link set lo up
mount --bind root/server root/server
cd root/server
echo server > etc/hostname
mount -t proc none proc
mount -t sysfs none sys
mount -t cgroup2 none sys/fs/cgroup
mount -t tmpfs -o mode=755 none dev
for each in null zero full random urandom tty; do
    touch dev/$each
    mount --bind /dev/$each dev/$each
done
ln -s /proc/self/fd dev/fd
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 none dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs none dev/shm
mount -t tmpfs -o mode=755 none run
mount -t tmpfs none tmp
mkdir -p root/.cache/uv old
mount --bind "$1" root/.cache/uv
pivot_root . old
umount -l old
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
"""


class DebianServer(Commands):
    """The server; commands run there as root, in its network unless that is to be this one's."""

    def __init__(self, folder: Path, first: int) -> None:
        """Enter the namespaces of the process `first`; `folder` is for files of the client."""
        self.first = first
        self.files = Path(f"/proc/{first}/root")
        self.folder = Path("/root")
        self.environment = {}
        self._client = folder

    def prefix(self, folder: Path) -> list[str]:
        """Into the namespaces; the network is that of the thread that asks."""
        entered = [f"--target={self.first}", "--mount", "--pid", "--uts", "--ipc", "--cgroup"]
        passed_on = {name: os.environ[name] for name in PASSED_ON - {"CI"}}
        if SYSTEM_CERTIFICATES.exists():
            passed_on |= dict.fromkeys(("PIP_CERT", "SSL_CERT_FILE"), "/etc/ssl/machine.pem")
        settings = {
            **passed_on,
            "HOME": "/root",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }
        given = [f"{name}={value}" for name, value in settings.items()]
        return ["nsenter", *entered, f"--wdns={folder}", "--", "env", "-i", *given]

    def write(self, path: str, text: str) -> None:
        """Write a file there."""
        target = self.files / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def ask(self, unit: str, name: str) -> str:
        """What systemd knows of a unit."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).strip()

    def allow_ssh(self) -> None:
        """Have `client/ssh` be a client whose key the server takes."""
        client = self._client
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{client}/key"]
        subprocess.run(make, check=True)
        self.write("/root/.ssh/authorized_keys", (client / "key.pub").read_text())
        options = ["IdentitiesOnly=yes", "StrictHostKeyChecking=accept-new"]
        options += [f"IdentityFile={client}/key", f"UserKnownHostsFile={client}/known"]
        given = " ".join(f"-o {each}" for each in options)
        program = installed_program("ssh", "openssh-client")
        (client / "ssh").write_text(f'#!/bin/sh\nexec {program} -F none {given} "$@"\n')
        (client / "ssh").chmod(0o755)

    @property
    def path_of_client(self) -> str:
        """A search path on which `ssh` is that client."""
        return f"{self._client}:{os.environ['PATH']}"


@contextmanager
def debian_server() -> Iterator[DebianServer]:
    """A server that has started; skips the test, or fails it in CI, where a machine can make none.

    Raises:
        AssertionError: when it does not start.
    """
    for program, package in PROGRAMS.items():
        installed_program(program, package)
    if os.geteuid() != 0:
        impossible("only root can make a server of namespaces")
    with tempfile.TemporaryDirectory(prefix="groundwork-server-") as created:
        folder = Path(created)
        for each in ("root", "cgroup", "client"):
            (folder / each).mkdir()
        try:
            with _first_process(folder) as first:
                server = DebianServer(folder / "client", first)
                _prepare(server)
                yield server
        finally:
            remove = (
                f"mount -t cgroup2 none cgroup; find cgroup/{folder.name} -depth -type d -delete"
            )
            subprocess.run(["unshare", "--mount", "sh", "-c", remove], cwd=folder, check=False)


@contextmanager
def _first_process(folder: Path) -> Iterator[int]:
    own = ["--pid", "--fork", "--kill-child", "--net", "--uts", "--ipc", "--cgroup", "--mount"]
    own += ["--propagation=private"]
    begin = f'{INSTALL}{CGROUP}exec unshare {" ".join(own)} sh -ec "$3" sh "$2"'
    cache = Path(cache_of_uv())
    cache.mkdir(parents=True, exist_ok=True)
    command = ["unshare", "--mount", "--propagation=private", "sh", "-ec", begin, "sh"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [*with_us("KILL"), *command, folder.name, str(cache), BOOT],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        ) as process,
    ):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        deadline = time.monotonic() + 5 * PATIENCE

        def said() -> str:
            return (folder / "log").read_text()

        try:
            while not (found := _systemd(children)):
                if process.poll() is not None or time.monotonic() > deadline:
                    impossible(f"no server with Debian can be made here: {said()}")
                time.sleep(0.05)
            yield found
        finally:
            # It is gone once all others are, and `unshare` once it is.
            os.kill(_systemd(children) or process.pid, signal.SIGKILL)
            process.wait(60)


def _systemd(children: Path) -> int | None:
    """The child that is systemd, if there is one by now."""
    try:
        for child in children.read_text().split():
            if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                return int(child)
    except OSError:
        pass
    return None


def _prepare(server: DebianServer) -> None:
    """Let it install as this machine does, and wait until it has started."""
    server.write("/etc/resolv.conf", Path("/etc/resolv.conf").read_text())
    if SYSTEM_CERTIFICATES.exists():
        server.write("/etc/ssl/machine.pem", SYSTEM_CERTIFICATES.read_text())
    server.allow_ssh()
    deadline = time.monotonic() + PATIENCE
    while True:
        said = server.outcome("systemctl", "is-system-running", "--wait").stdout
        if re.match("running|degraded", said):  # it may load no modules of the kernel
            return
        assert time.monotonic() < deadline, said
        time.sleep(0.1)
