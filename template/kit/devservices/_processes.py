"""Start servers such that they cannot outlive the process that started them."""

import ctypes
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from kit.devservices._data import Address, DevServicesError, refuse_taken_port

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
        PortTakenError: when another program listens at its address.
        DevServicesError: when it does not become ready, with the end of its log.
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
