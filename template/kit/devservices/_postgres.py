"""Start one PostgreSQL server: make its data directory, set its password, wait until ready."""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from kit.devservices._binaries import PostgresPrograms, find_postgres
from kit.devservices._data import DevServicesError, PostgresAddress
from kit.devservices._processes import (
    Identity,
    Server,
    start_server,
    unprivileged_identity,
)
from kit.devservices._unprivileged_access import reachable_data_directory, reachable_programs

READY_SECONDS = 60
"""A server that was killed replays its log first; on a slow disk that takes its time."""

# Temporary data need not survive a power cut, and syncing is most of the time of a commit.
_UNSAFE_BUT_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def start_postgres(data: Path, address: PostgresAddress, *, lock: int, temporary: bool) -> Server:
    """Start the server of the data in `data / "pg"` and wait until it accepts connections."""
    identity = unprivileged_identity()
    programs = reachable_programs(find_postgres(), identity)
    directory = reachable_data_directory(data / "pg", identity)
    if not directory.exists():
        _make_data_directory(programs, directory, identity)
    _refuse_other_version(programs, directory)
    _forget_dead_server(directory)
    _set_password(programs, directory, address, identity)
    settings = {
        "listen_addresses": address.host,
        "port": str(address.port),
        "unix_socket_directories": "",
        "timezone": "UTC",
        **(_UNSAFE_BUT_FAST if temporary else {}),
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return start_server(
        [programs.directory / "postgres", "-D", directory, *options],
        address=address,
        data=data,
        lock=lock,
        stop_signal=signal.SIGINT,  # rolls open transactions back and writes its data
        is_ready=lambda process: _is_ready(process, directory),
        ready_seconds=READY_SECONDS,
        identity=identity,
        environment=_environment(),
    )


def _make_data_directory(programs: PostgresPrograms, directory: Path, identity: Identity) -> None:
    # Made beside its place and renamed, so that an interrupted initdb leaves no partial directory.
    unfinished = directory.with_name(f"{directory.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if identity:
        os.chown(unfinished, identity["user"], identity["group"])
    options = [
        f"--pgdata={unfinished}",
        "--username=postgres",
        "--auth-local=peer",
        "--auth-host=scram-sha-256",
        "--encoding=UTF8",
        *_locale_options(programs.major),
        "--no-sync",
        "--no-instructions",
    ]
    _run([programs.directory / "initdb", *options], identity)
    unfinished.rename(directory)


def _locale_options(major: int) -> list[str]:
    # From 17 on PostgreSQL has a UTF-8 locale of its own, the same on every machine.
    if major >= 17:  # noqa: PLR2004
        return ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return ["--locale=C.UTF-8"]


def _refuse_other_version(programs: PostgresPrograms, directory: Path) -> None:
    found = (directory / "PG_VERSION").read_text(encoding="ascii").strip()
    if found != str(programs.major):
        raise DevServicesError(
            f"the development database in {directory} was made by PostgreSQL {found}, and the "
            f"installed one is {programs.major}, which cannot read it. To keep the data, set "
            f"PG_BINDIR to the programs of PostgreSQL {found} (its directory bin) and dump it; "
            f"to begin with an empty database, remove {directory}."
        )


def _forget_dead_server(directory: Path) -> None:
    """Remove a stale `postmaster.pid`, whose process is not PostgreSQL.

    PostgreSQL refuses to start when that process id is in use at all. After a restart of a
    container it usually is, by another program: few ids are in use, assigned in the same order.
    """
    pid_file = directory / "postmaster.pid"
    if not pid_file.exists():
        return
    pid = pid_file.read_text(encoding="utf-8").split("\n", 1)[0]
    name = Path("/proc", pid, "comm")
    if name.exists() and name.read_text(encoding="utf-8").strip() != "postgres":
        pid_file.unlink()


def _set_password(
    programs: PostgresPrograms, directory: Path, address: PostgresAddress, identity: Identity
) -> None:
    # At every start, since services.json may have changed. The single-user mode needs no login
    # without a password, no socket and no client program; it takes 0.03 s.
    statement = f"ALTER ROLE {address.username} PASSWORD '{address.password}'\n"
    options = ["--single", "-D", str(directory), "postgres"]
    _run([programs.directory / "postgres", *options], identity, standard_input=statement)


def _run(command: Sequence[str | Path], identity: Identity, standard_input: str = "") -> None:
    result = subprocess.run(
        command,
        cwd="/",
        env=_environment(),
        input=standard_input,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **identity,
    )
    if result.returncode != 0:
        raise DevServicesError(f"{command[0]} failed:\n{result.stdout.strip()}")


def _environment() -> dict[str, str]:
    """This process's environment without the variables that would reconfigure PostgreSQL."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_"))}
    return {**kept, "LC_ALL": "C"}


def _is_ready(process: subprocess.Popen[bytes], directory: Path) -> bool:
    """Whether the server accepts connections."""
    status = directory / "postmaster.pid"
    # Line 1 is the server's process id, line 8 its state:
    # https://github.com/postgres/postgres/blob/master/src/include/utils/pidfile.h
    lines = status.read_text(encoding="utf-8").split("\n") if status.exists() else []
    return lines[:1] == [str(process.pid)] and [each.strip() for each in lines[7:8]] == ["ready"]
