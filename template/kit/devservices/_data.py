"""Files in `.data/`: generated once and kept. Logins of this machine's service, and addresses.

So a database URL is known, and stays the same, before a server is started.
"""

import errno
import fcntl
import json
import os
import random
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import ClassVar


class DevServicesError(Exception):
    """A development server cannot be started; the message says which, why and what to do.

    All functions of this room raise it.
    """


_POLL_SECONDS = 0.02


def data_directory(base_dir: Path) -> Path:
    """The project's `.data/`, made when missing: not readable by others and ignored by git."""
    directory = base_dir / ".data"
    try:
        # Root's PostgreSQL runs as another user, who has to pass through but need not list.
        directory.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, exist_ok=True)
        ignore = directory / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise DevServicesError(
            f"{directory} cannot be written ({error.strerror}); it holds the development data. "
            f"Make it yours (chown -R {os.geteuid()} {directory}) or remove it."
        ) from error
    return directory


def load_or_generate(path: Path, generate: Callable[[], Mapping[str, object]]) -> dict[str, object]:
    """Load the JSON object in `path`; the first time, generate and write it."""
    try:
        with locked(path.with_suffix(".lock"), seconds=10):
            if not path.exists():
                _write(path, generate())
            content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DevServicesError(
            f"{path} is not valid JSON ({error}). Fix it, or remove it to have it made again."
        ) from error
    if not isinstance(content, dict):
        raise DevServicesError(f"{path} holds no JSON object. Remove it to have it made again.")
    return content


@contextmanager
def locked(path: Path, *, seconds: float) -> Iterator[int]:
    """Hold the lock on the file `path`; yields its file descriptor.

    The lock is the kernel's (flock): it ends with the last process that has the descriptor.

    Raises:
        DevServicesError: when the file is another user's.
        TimeoutError: when another process holds it for longer than `seconds`.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError as error:
        raise DevServicesError(
            f"{path.parent} belongs to another user, who started the service here before. "
            f"Make it yours (chown -R {os.geteuid()} {path.parent}) or remove it."
        ) from error
    try:
        deadline = time.monotonic() + seconds
        while not try_lock(descriptor):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} stayed locked for {seconds:.0f} seconds")
            time.sleep(_POLL_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Lock an open file without waiting; returns False when another process holds the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(path: Path, content: Mapping[str, object]) -> None:
    # Renamed into place, so that a reader never sees half a file, not even after a crash.
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    unfinished.rename(path)


@dataclass(frozen=True, repr=False)
class Credentials:
    """A developer's credentials, which stay the same until `.data/credentials.json` is removed."""

    secret_key: str
    admin_username: str
    admin_password: str
    flower_password: str
    api_token: str


def local_credentials(base_dir: Path) -> Credentials:
    """The credentials of the project in `base_dir`; generated when there are none yet.

    Raises:
        DevServicesError: when `.data/credentials.json` cannot be written or read.
    """
    path = data_directory(base_dir) / "credentials.json"
    content = load_or_generate(path, lambda: asdict(_generate()))
    texts = {key: value for key, value in content.items() if isinstance(value, str)}
    names = [each.name for each in fields(Credentials)]
    if missing := set(names) - texts.keys():
        raise DevServicesError(
            f"{path} lacks {', '.join(sorted(missing))}. Remove it to have it made again."
        )
    return Credentials(**{name: texts[name] for name in names})


def _generate() -> Credentials:
    return Credentials(
        secret_key=secrets.token_urlsafe(32),
        admin_username="admin",
        admin_password=secrets.token_urlsafe(12),
        flower_password=secrets.token_urlsafe(12),
        api_token=f"api_{secrets.token_urlsafe(32)}",
    )


HOST = "127.0.0.1"
ADDRESSES_FILE = "services.json"

# Below the ports that systems assign to outgoing connections (Linux: from 32768), which could
# occupy a reserved port while its server is down.
_PORTS = range(20000, 32768)


@dataclass(frozen=True)
class Address:
    """Address and login of a server."""

    title: ClassVar[str]
    key: ClassVar[str]

    port: int
    password: str = field(repr=False)
    username: str
    host: str = field(default=HOST, kw_only=True)


@dataclass(frozen=True)
class PostgresAddress(Address):
    """Address and login of PostgreSQL."""

    title = "PostgreSQL"
    key = "postgres"

    username: str = "postgres"

    @property
    def url(self) -> str:
        """`postgresql://username:password@host:port`, to be followed by a database's name."""
        return f"postgresql://{self.username}:{self.password}@{self.host}:{self.port}"


@dataclass(frozen=True)
class RedisAddress(Address):
    """Address and login of Valkey, which speaks Redis's protocol."""

    title = "Valkey"
    key = "redis"

    username: str = "default"

    @property
    def url(self) -> str:
        """`redis://username:password@host:port/0`."""
        return f"redis://{self.username}:{self.password}@{self.host}:{self.port}/0"


@dataclass(frozen=True)
class Addresses:
    """Addresses of both servers."""

    postgres: PostgresAddress
    redis: RedisAddress


def addresses(base_dir: Path) -> Addresses:
    """The addresses reserved for the project in `base_dir`; chosen when there are none yet.

    Raises:
        DevServicesError: when `.data/services.json` cannot be written or read.
    """
    return addresses_in(data_directory(base_dir))


def addresses_in(data: Path, usable: Callable[[int], bool] | None = None) -> Addresses:
    """The addresses in `services.json` in `data`; chosen of ports that are `usable`, or free."""
    path = data / ADDRESSES_FILE
    content = load_or_generate(path, lambda: asdict(_reserve(usable or port_is_free)))
    try:
        return Addresses(
            postgres=PostgresAddress(**content["postgres"]),  # type: ignore[arg-type]
            redis=RedisAddress(**content["redis"]),  # type: ignore[arg-type]
        )
    except (KeyError, TypeError) as error:
        raise DevServicesError(
            f"{path} is not as it was written ({error}). Remove it to have it made again."
        ) from error


def port_is_free(port: int) -> bool:
    """Whether a server can listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        # As servers set it: a port with connections in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
        return True


def refuse_taken_port(address: Address, data: Path) -> None:
    """Check that a reserved port is free for its server.

    Raises:
        DevServicesError: when another program listens there; it says how to choose another.
    """
    if not port_is_free(address.port):
        raise DevServicesError(
            f"port {address.port} of {HOST}, reserved for this project's {address.title}, is used "
            f'by another program. End that program, or choose another port: "port" of '
            f'"{address.key}" in {data / ADDRESSES_FILE}.'
        )


@contextmanager
def claimed_addresses(data: Path) -> Iterator[Addresses]:
    """Choose addresses that no other run chooses, from before their servers listen.

    A claim is a socket of UDP on the port, where nothing of TCP is in its way.
    """
    with ExitStack() as claims:

        def claim(port: int) -> bool:
            claimed = claims.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            try:
                claimed.bind((HOST, port))
            except OSError:
                return False
            return port_is_free(port)

        yield addresses_in(data, claim)


def _reserve(usable: Callable[[int], bool]) -> Addresses:
    # Hexadecimal digits need no encoding in a URL and no quoting in SQL.
    free = (port for port in random.sample(_PORTS, len(_PORTS)) if usable(port))
    first, second = next(free), next(free)
    return Addresses(
        PostgresAddress(first, secrets.token_hex(16)), RedisAddress(second, secrets.token_hex(16))
    )
