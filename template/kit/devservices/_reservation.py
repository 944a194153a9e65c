"""Addresses of the development servers: chosen once, then kept in `.data/services.json`.

So a database URL is known, and stays the same, before a server is started.
"""

import errno
import random
import secrets
import socket
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

from kit.devservices._data import DevServicesError, PortTakenError, data_directory, load_or_generate

HOST = "127.0.0.1"
FILE_NAME = "services.json"

# Below the ports that systems assign to outgoing connections (Linux: from 32768), which could
# occupy a reserved port while its server is down.
_PORTS = range(20000, 32768)


@dataclass(frozen=True)
class PostgresAddress:
    """Address and login of PostgreSQL."""

    title: ClassVar[str] = "PostgreSQL"
    key: ClassVar[str] = "postgres"

    port: int
    password: str = field(repr=False)
    username: str = "postgres"
    host: str = HOST

    @property
    def url(self) -> str:
        """`postgresql://username:password@host:port`, to be followed by a database's name."""
        return f"postgresql://{self.username}:{self.password}@{self.host}:{self.port}"


@dataclass(frozen=True)
class RedisAddress:
    """Address and login of Valkey, which speaks Redis's protocol."""

    title: ClassVar[str] = "Valkey"
    key: ClassVar[str] = "redis"

    port: int
    password: str = field(repr=False)
    username: str = "default"
    host: str = HOST

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


def addresses_in(data: Path) -> Addresses:
    """The addresses in `services.json` in the directory `data`; see `addresses`."""
    path = data / FILE_NAME
    content = load_or_generate(path, lambda: asdict(_reserve()))
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


def refuse_taken_port(address: PostgresAddress | RedisAddress, data: Path) -> None:
    """Check that a reserved port is free for its server.

    Raises:
        PortTakenError: when another program listens there; the message says how to choose another.
    """
    if not port_is_free(address.port):
        raise PortTakenError(
            f"port {address.port} of {HOST}, reserved for this project's {address.title}, is used "
            f'by another program. End that program, or choose another port: "port" of '
            f'"{address.key}" in {data / FILE_NAME}.'
        )


def _reserve() -> Addresses:
    # Hexadecimal digits need no encoding in a URL and no quoting in SQL.
    free = (port for port in random.sample(_PORTS, len(_PORTS)) if port_is_free(port))
    first, second = next(free), next(free)
    return Addresses(
        PostgresAddress(first, secrets.token_hex(16)), RedisAddress(second, secrets.token_hex(16))
    )
