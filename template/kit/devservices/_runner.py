"""Run several programs under one command: with one output, and one end for all.

Each program is the leader of a process group of its own, so that a terminal's Ctrl-C reaches the
runner alone, which then ends them in order. On Linux they also end when the runner is killed, or
the `make` that it runs under; elsewhere that leaves them running.
"""

import asyncio
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from kit.devservices._lease import Lease
from kit.devservices._processes import describe_status, signal_at_end_of_parent

GRACE_SECONDS = 8.0
"""Grace period for programs to end by themselves, as a worker needs to finish its task."""

_COLOURS = ("36", "33", "32", "35", "34", "31")
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Program:
    """A program to run, its additional environment, and a URL that answers once it is up."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    url: str | None = None


def run_together(programs: Sequence[Program], *, lease: Lease | None, announcement: str) -> int:
    """Run all programs until one ends or this process is to stop; then end them all.

    Prints `announcement` when every URL answers. A second Ctrl-C does not wait for programs that
    take long to end. Losing the servers of `lease` counts as the end of a program.

    Returns:
        0 after a signal to stop, 1 when a program or the servers ended by themselves.
    """
    return asyncio.run(_Runner(programs, lease, announcement).run())


class _Runner:
    # asyncio's own subprocesses count as running while a process holds their output open, such as
    # an orphaned child. So children are waited for on SIGCHLD instead.

    def __init__(self, programs: Sequence[Program], lease: Lease | None, announcement: str) -> None:
        self._programs = programs
        self._lease = lease
        self._announcement = announcement
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._unfinished_lines: dict[str, bytes] = {}
        self._stopping = asyncio.Event()
        self._impatient = asyncio.Event()
        self._all_gone = asyncio.Event()
        self._failure: str | None = None
        width = max(len(program.name) for program in programs)
        coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._prefixes = {
            program.name: f"\033[{colour}m{program.name:<{width}} |\033[0m "
            if coloured
            else f"{program.name:<{width}} | "
            for program, colour in zip(programs, _COLOURS * len(programs), strict=False)
        }

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self._on_stop_signal)
        loop.add_signal_handler(signal.SIGCHLD, self._notice_ended)
        if self._lease is not None:
            loop.add_reader(self._lease.fileno(), self._servers_lost)
        ancestors = [os.pidfd_open(pid) for pid in _ancestors_up_to_make()]
        for ancestor in ancestors:
            loop.add_reader(ancestor, self._orphaned, ancestor)
        announcement = asyncio.create_task(self._announce())
        try:
            for program in self._programs:
                self._start(program)
            await self._stopping.wait()
            if self._failure:
                self._print(f"{self._failure}; stopping the rest.")
        finally:
            announcement.cancel()
            await self._end_all()
            for ancestor in ancestors:
                os.close(ancestor)
        return 1 if self._failure else 0

    def _start(self, program: Program) -> None:
        process = subprocess.Popen(
            program.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **program.environment},
            start_new_session=True,
            preexec_fn=signal_at_end_of_parent(signal.SIGTERM),  # noqa: PLW1509 (libc alone)
        )
        assert process.stdout is not None  # noqa: S101 (a pipe was asked for)
        os.set_blocking(process.stdout.fileno(), False)
        self._processes[program.name] = process
        asyncio.get_running_loop().add_reader(
            process.stdout.fileno(), self._forward_output, program.name, process.stdout
        )

    def _forward_output(self, name: str, output: IO[bytes]) -> bool:
        """Print a program's new output; returns whether there may be more at once."""
        piece = output.read(65536)
        if piece is None:
            return False
        *lines, rest = (self._unfinished_lines.pop(name, b"") + piece).split(b"\n")
        if not piece:
            asyncio.get_running_loop().remove_reader(output.fileno())
            output.close()
            lines, rest = [rest] if rest else [], b""
        self._unfinished_lines[name] = rest
        for line in lines:
            self._print(self._prefixes[name] + line.decode(errors="replace"))
        return bool(piece)

    def _notice_ended(self) -> None:
        statuses = {name: process.poll() for name, process in self._processes.items()}
        for name, status in statuses.items():
            if status is not None:
                self._fail(f"{name} {describe_status(status)}")
        if None not in statuses.values():
            self._all_gone.set()

    async def _announce(self) -> None:
        await asyncio.gather(*[_answers(program.url) for program in self._programs if program.url])
        self._print(self._announcement)

    async def _end_all(self) -> None:
        for process in self._processes.values():
            process.terminate()
        await _first_of(self._all_gone, self._impatient, seconds=GRACE_SECONDS)
        for process in self._processes.values():
            # The whole group: also processes that a program has started and not ended.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for name, process in self._processes.items():
            process.wait()
            output = process.stdout
            while output is not None and not output.closed and self._forward_output(name, output):
                pass

    def _on_stop_signal(self) -> None:
        if self._stopping.is_set():
            self._impatient.set()
        self._stopping.set()

    def _orphaned(self, ancestor: int) -> None:
        # It would stay readable, and wake the loop again and again.
        asyncio.get_running_loop().remove_reader(ancestor)
        self._stopping.set()

    def _servers_lost(self) -> None:
        assert self._lease is not None  # noqa: S101 (its descriptor was what turned readable)
        asyncio.get_running_loop().remove_reader(self._lease.fileno())
        self._fail(self._lease.reason_of_loss())

    def _fail(self, reason: str) -> None:
        if not self._stopping.is_set():
            self._failure = reason
        self._stopping.set()

    def _print(self, text: str) -> None:
        try:
            print(text, flush=True)
        except BrokenPipeError:
            # The reader of the output has ended, as `head` does when it has enough.
            self._stopping.set()


async def _first_of(*events: asyncio.Event, seconds: float) -> None:
    tasks = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def _ancestors_up_to_make() -> list[int]:
    """Ids of the processes from this one's parent up to the `make` that it runs under.

    `make` and `uv run` do not pass on that they were killed. Empty outside Linux.
    """
    if sys.platform != "linux":
        return []
    ancestors = []
    pid = os.getppid()
    while pid > 1:
        ancestors.append(pid)
        status = dict(
            line.split(":\t", 1)
            for line in Path("/proc", str(pid), "status").read_text(encoding="utf-8").splitlines()
        )
        if status["Name"] in ("make", "gmake"):
            return ancestors
        pid = int(status["PPid"])
    return []


async def _answers(url: str) -> None:
    """Wait until the URL answers, with any status."""
    while True:
        try:
            await asyncio.to_thread(urllib.request.urlopen, url, timeout=2)
        except urllib.error.HTTPError:
            return
        except OSError:
            await asyncio.sleep(0.2)
        else:
            return
