"""What this machine has: cores, and servers of its system, started by hand as an operator would."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

HOSTILE_PASSWORD = "p@ss:w/o#rd?%2F+ é&="


def installed_program(name: str, package: str) -> str:
    """Where a program is; skips the test, or fails it in CI, where it is missing."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
    path = os.pathsep.join([os.environ["PATH"], *map(str, reversed(folders)), "/usr/sbin"])
    if found := shutil.which(name, path=path):
        return found
    message = f"{name} is not installed: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def free_port(host: str = "127.0.0.1") -> int:
    """A port of this machine's address `host` that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_free(port: int) -> bool:
    """Whether a server can listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def with_us(end: str) -> list[str]:
    """What to put before a command that must not outlive a test run that is killed (Linux).

    Args:
        end: the signal it gets then, as `TERM`.
    """
    return ["setpriv", "--pdeathsig", end, "--"] if shutil.which("setpriv") else []


def _unprivileged() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: somebody else, then."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@contextmanager
def installed_postgres(folder: Path, host: str = "127.0.0.1") -> Iterator[dict[str, str]]:
    """The system's PostgreSQL, which asks for a password; gives the settings that lead to it.

    Args:
        folder: where its files go.
        host: the address of this machine at which it answers, to callers from anywhere.
    """
    initdb, postgres = (installed_program(name, "postgresql") for name in ("initdb", "postgres"))
    identity = _unprivileged()
    data, password_file = folder / "data", folder / "password"
    folder.mkdir()
    password_file.write_text(HOSTILE_PASSWORD, encoding="utf-8")
    if identity:
        for path in (folder, password_file):
            os.chown(path, identity["user"], identity["group"])
    options = ["--auth=scram-sha-256", "--username=owner", f"--pwfile={password_file}"]
    subprocess.run(
        [initdb, "-D", data, *options, "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"],
        check=True,
        capture_output=True,
        cwd="/",
        **identity,
    )
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all all scram-sha-256\n")
    port = free_port(host)
    options = ["-p", str(port), "-h", host, "-c", "fsync=off"]
    process = subprocess.Popen(
        [*with_us("INT"), postgres, "-D", data, "-k", folder, *options],
        stderr=subprocess.DEVNULL,
        cwd="/",
        **identity,
    )
    try:
        _wait_for(host, port, process)
        yield {
            "POSTGRES_HOST": host,
            "POSTGRES_PORT": str(port),
            "POSTGRES_USER": "owner",
            "POSTGRES_PASSWORD": HOSTILE_PASSWORD,
            "POSTGRES_DB": "postgres",
        }
    finally:
        process.send_signal(signal.SIGINT)  # without waiting for those who are connected
        process.wait(timeout=30)


@contextmanager
def installed_redis(folder: Path, host: str = "127.0.0.1") -> Iterator[dict[str, str]]:
    """The system's Redis with the free plan's limit; gives the settings that lead to it.

    Args:
        folder: where its files go.
        host: the address of this machine at which it answers.
    """
    folder.mkdir()
    port, password = free_port(host), secrets.token_hex(16)
    process = subprocess.Popen(
        [*with_us("TERM"), installed_program("redis-server", "redis-server"), "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=folder,
        text=True,
    )
    assert process.stdin
    process.stdin.write(
        f'port {port}\nbind {host}\nrequirepass {password}\nmaxclients 30\nsave ""\n'
        "maxmemory 30mb\nmaxmemory-policy noeviction\ndatabases 1\n"
    )
    process.stdin.close()
    try:
        _wait_for(host, port, process)
        yield {"REDIS_HOST": host, "REDIS_PORT": str(port), "REDIS_PASSWORD": password}
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_for(host: str, port: int, process: "subprocess.Popen[Any]") -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def cores() -> int:
    """How many processes can run at the same time here."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
