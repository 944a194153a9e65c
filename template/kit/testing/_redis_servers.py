"""A Redis-compatible server of a test's own, which it may fill, kill and start again."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from kit.devservices import find_valkey, signal_at_end_of_parent


class RedisServer:
    """One server on 127.0.0.1, with nothing kept over a restart unless the options say so."""

    def __init__(self, directory: Path, *options: str, program: str | None = None) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command: Sequence[str] = [
            *(program or str(find_valkey()), "--bind", "127.0.0.1", "--port", str(self.port)),
            *("--dir", str(directory), "--save", "", "--loglevel", "warning", *options),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "RedisServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._process = subprocess.Popen(
            self._command,
            preexec_fn=signal_at_end_of_parent(signal.SIGKILL),  # noqa: PLW1509 (one thread)
        )
        try:
            # It is there within a few milliseconds, and on a busy machine within five seconds.
            with self.client(retry=Retry(ConstantBackoff(0.005), 1000)) as client:
                client.ping()
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End the server without a chance to say so to its clients."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self, **options: object) -> redis.Redis:
        """A client that shares nothing with the code under test; it waits for a minute."""
        options = {"decode_responses": True, "socket_timeout": 60, **options}
        return redis.Redis.from_url(self.url, **options)


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tls_program() -> str | None:
    """A server program that was built with TLS, if the machine has one."""
    for name in ("valkey-server", "redis-server"):
        program = shutil.which(name)
        if program is None:
            continue
        # Without a certificate, a server that knows TLS complains about that.
        answer = subprocess.run(
            [program, "--port", "0", "--tls-port", "1"], capture_output=True, text=True, check=False
        )
        if "Bad directive" not in answer.stdout + answer.stderr:
            return program
    return None
