"""Start one Valkey (or Redis) server, and wait until it is ready."""

import signal
import socket
from pathlib import Path

from kit.devservices._binaries import find_valkey
from kit.devservices._data import RedisAddress
from kit.devservices._processes import Server, start_server

READY_SECONDS = 30


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
        ready_seconds=READY_SECONDS,
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
