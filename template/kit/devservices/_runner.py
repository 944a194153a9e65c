"""Run several programs under one command: with one output, and one end for all.

Programs that restart are started again when their files change, and when they were killed. After
another end they wait for a change: of a file, or of the state that made them refuse to start.
Meanwhile requests to a server that is down are answered: 503, with the last lines of its output.

Each program is the leader of a process group of its own, so that a terminal's Ctrl-C reaches the
runner alone, which then ends them in order. On Linux they also end when the runner is killed, or
the `make` that it runs under; elsewhere that leaves them running.
"""

import asyncio
import html
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import cycle
from typing import IO, TYPE_CHECKING, Any

from kit.devservices._servers import describe_status, signal_at_end_of_parent

if TYPE_CHECKING:
    from kit.devservices import Lease

GRACE_SECONDS = 8.0
"""Grace period for programs to end by themselves, as a worker needs to finish its task."""

NOTICE_SECONDS = 2.0
"""A program that takes longer to end before its restart is mentioned."""

CRASH_SECONDS = 5.0
"""A program that was killed within this time of its start is not started again at once."""

POLL_SECONDS = 0.5
"""Interval at which the state is read while a program is down."""

SHOWN_LINES = 40
"""Lines of output that are shown in place of a program that is down."""

_COLOURS = ("36", "33", "32", "35", "34", "31")
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Program:
    """A program to run.

    Attributes:
        name: shown before each line of its output.
        command: the program and its arguments.
        environment: what it gets in addition to the environment of this process.
        url: answers once it is up.
        restarts: whether it is started again; the end of any other program ends them all.
        restart_seconds: grace period for it to end before a restart.
        listener: a listening socket that it inherits; requests are answered while it is down.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    url: str | None = None
    restarts: bool = False
    restart_seconds: float = GRACE_SECONDS
    listener: socket.socket | None = None


@dataclass(frozen=True)
class Changes:
    """What programs are restarted for.

    Attributes:
        files: each waits for changes of files, and yields the names of those that changed.
        state: reads what a program with a listener may have to wait for, such as the database's
            revisions; called again and again while it is down.
    """

    files: Sequence[Callable[[], AsyncIterator[str]]]
    state: Callable[[], Awaitable[object]]


def run_together(
    programs: Sequence[Program],
    *,
    lease: "Lease | None",
    announcement: str,
    changes: Changes | None = None,
) -> int:
    """Run all programs until one ends or this process is to stop; then end them all.

    Prints `announcement` when every URL answers. A second Ctrl-C does not wait for programs that
    take long to end. Losing the servers of `lease` counts as the end of a program.

    Returns:
        0 after a signal to stop, 1 when a program or the servers ended by themselves.
    """
    return asyncio.run(_Runner(programs, lease, announcement, changes).run())


class _Runner:
    # asyncio's own subprocesses count as running while a process holds their output open, such as
    # an orphaned child. So children are waited for on SIGCHLD instead.

    def __init__(
        self,
        programs: Sequence[Program],
        lease: "Lease | None",
        announcement: str,
        changes: Changes | None,
    ) -> None:
        self._programs = programs
        self._restarted = [program.name for program in programs if program.restarts]
        self._lease = lease
        self._announcement = announcement
        self._changes = changes
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ended = {program.name: asyncio.Event() for program in programs}
        self._changed = {program.name: asyncio.Event() for program in programs}
        self._unfinished_lines: dict[str, bytes] = {}
        self._recent_lines: dict[str, deque[str]] = {}
        self._stopping = asyncio.Event()
        self._impatient = asyncio.Event()
        self._failure: str | None = None
        width = max(len(program.name) for program in programs)
        coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        form = "\033[{colour}m{name} |\033[0m " if coloured else "{name} | "
        self._prefixes = {
            program.name: form.format(name=program.name.ljust(width), colour=colour)
            for program, colour in zip(programs, cycle(_COLOURS), strict=False)
        }

        # Not sys.stdout: if PYTHONUNBUFFERED it loses the rest of a write that a signal cut short.
        self._output = open(  # noqa: SIM115 (standard output stays open)
            sys.stdout.fileno(), "w", encoding=sys.stdout.encoding, errors="replace", closefd=False
        )

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
        watches = self._changes.files if self._changes else ()
        tasks = [
            self._in_background(self._announce()),
            *[self._in_background(self._restart_at(watch())) for watch in watches],
        ]
        try:
            for program in self._programs:
                if program.restarts:
                    tasks.append(self._in_background(self._keep_running(program)))
                else:
                    self._start(program)
            await self._stopping.wait()
            if self._failure:
                self._print(f"{self._failure}; stopping the rest.")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await asyncio.gather(*map(self._end, self._processes))
            for ancestor in ancestors:
                os.close(ancestor)
        return 1 if self._failure else 0

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        def notice_failure(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()):
                self._fail(f"{type(error).__name__}: {error}")

        task = asyncio.create_task(work)
        task.add_done_callback(notice_failure)
        return task

    async def _keep_running(self, program: Program) -> None:
        """Start a program, and again after each change of its files and when it was killed."""
        name = program.name
        while True:
            state = asyncio.create_task(self._read_state())
            self._changed[name].clear()
            process = self._start(program)
            started = time.monotonic()
            await _first_of(self._ended[name], self._changed[name])
            if process.poll() is None:
                await self._end_for_restart(program)
                continue
            self._forward_rest(name)
            reason = f"{name} {describe_status(process.returncode)}"
            if process.returncode < 0 and time.monotonic() - started > CRASH_SECONDS:
                self._print(f"{reason}; it is started again.")
                continue
            if program.listener is None:
                self._print(f"{reason}; it starts again when a file changes.")
                await self._changed[name].wait()
                continue
            self._print(f"{reason}; it starts again when a file or the database changes.")
            async with stand_in(program.listener, f"{reason}.", self._recent_lines[name]):
                await self._change(name, state)

    async def _end_for_restart(self, program: Program) -> None:
        process, ended = self._processes[program.name], self._ended[program.name]
        process.terminate()
        await _first_of(ended, seconds=NOTICE_SECONDS)
        if process.poll() is None and program.restart_seconds > GRACE_SECONDS:
            self._print(f"{program.name} finishes its work before it restarts.")
            await _first_of(ended, seconds=program.restart_seconds)
        await self._end(program.name)

    async def _change(self, name: str, state: asyncio.Task[object]) -> None:
        """Wait until a file changes, or the state from before the program was started."""

        async def change_of_state() -> None:
            before = await state
            while not self._changed[name].is_set():
                await asyncio.sleep(POLL_SECONDS)
                if await self._read_state() != before:
                    self._changed[name].set()

        polling = self._in_background(change_of_state())
        try:
            await self._changed[name].wait()
        finally:
            polling.cancel()

    async def _read_state(self) -> object:
        return await self._changes.state() if self._changes else None

    async def _restart_at(self, changes: AsyncIterator[str]) -> None:
        async for names in changes:
            self._print(f"{names} changed: restarting {', '.join(self._restarted)}.")
            for name in self._restarted:
                self._changed[name].set()

    def _start(self, program: Program) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            program.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **program.environment},
            start_new_session=True,
            preexec_fn=signal_at_end_of_parent(signal.SIGTERM),  # noqa: PLW1509 (libc alone)
            pass_fds=[program.listener.fileno()] if program.listener else [],
        )
        assert process.stdout is not None  # noqa: S101 (a pipe was asked for)
        os.set_blocking(process.stdout.fileno(), False)
        self._processes[program.name] = process
        self._ended[program.name].clear()
        self._recent_lines[program.name] = deque(maxlen=SHOWN_LINES)
        asyncio.get_running_loop().add_reader(
            process.stdout.fileno(), self._forward_output, program.name, process.stdout
        )
        return process

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
            text = line.decode(errors="replace")
            self._recent_lines[name].append(text)
            self._print(self._prefixes[name] + text)
        return bool(piece)

    def _forward_rest(self, name: str) -> None:
        """Print the output that is left of a program that has ended."""
        output = self._processes[name].stdout
        while output is not None and not output.closed and self._forward_output(name, output):
            pass

    def _notice_ended(self) -> None:
        for name, process in self._processes.items():
            status = process.poll()
            if status is not None and not self._ended[name].is_set():
                self._ended[name].set()
                if name not in self._restarted:
                    self._fail(f"{name} {describe_status(status)}")

    async def _announce(self) -> None:
        await asyncio.gather(*[_answers(program.url) for program in self._programs if program.url])
        self._print(self._announcement)

    async def _end(self, name: str) -> None:
        process = self._processes[name]
        process.terminate()
        await _first_of(self._ended[name], self._impatient, seconds=GRACE_SECONDS)
        # The whole group: also processes that a program has started and not ended.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._forward_rest(name)

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
            print(text, file=self._output, flush=True)
        except BrokenPipeError:
            # The reader of the output has ended, as `head` does when it has enough.
            self._stopping.set()


async def _first_of(*events: asyncio.Event, seconds: float | None = None) -> None:
    tasks = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _ancestors_up_to_make() -> list[int]:
    """Ids of the processes from this one's parent up to the `make` that it runs under.

    `make` and `uv run` do not pass on that they were killed. Empty outside Linux.
    """
    if sys.platform != "linux":
        return []
    import psutil  # type: ignore[import-untyped]  # noqa: PLC0415 (the keeper does without)

    ancestors = psutil.Process().parents()
    makes = [place for place, each in enumerate(ancestors) if each.name() in ("make", "gmake")]
    return [each.pid for each in ancestors[: makes[0] + 1]] if makes else []


async def _answers(url: str) -> None:
    """Wait until the URL answers, with a status that is no server's error."""
    # A proxy that the environment names is for other machines.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            await asyncio.to_thread(opener.open, url, timeout=2)
        except urllib.error.HTTPError as error:
            if error.code < HTTPStatus.INTERNAL_SERVER_ERROR:
                return
        except OSError:
            pass
        else:
            return
        await asyncio.sleep(0.2)


STAND_IN_SECONDS = 5
"""Timeout of one request."""

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="2"><title>{title}</title>
<body style="font: 16px/1.5 system-ui; margin: 3rem auto; max-width: 60rem; padding: 0 1rem">
<h1>{title}</h1><p>This page reloads by itself.</p>
<pre style="white-space: pre-wrap; overflow-wrap: anywhere">{text}</pre></body></html>
"""


@asynccontextmanager
async def stand_in(
    listener: socket.socket, title: str, lines: Sequence[str]
) -> AsyncIterator[None]:
    """Answer every request on the listening socket, until the block ends.

    Args:
        listener: which stays open; the server that is started next continues with it.
        title: what happened, in a sentence.
        lines: the output that says why, and what to do.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(
            TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            async with asyncio.timeout(STAND_IN_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_answer(head.decode("latin-1"), title, "\n".join(lines)))
                await writer.drain()
                writer.write_eof()
                # Closed with unread data, the connection would be reset, and the answer lost.
                while await reader.read(65536):
                    pass
        writer.close()

    server = await asyncio.start_server(answer, sock=listener.dup())
    try:
        yield
    finally:
        server.close()


def _answer(head: str, title: str, text: str) -> bytes:
    method, _, rest = head.partition(" ")
    path = rest.partition(" ")[0]
    if "text/html" in head and not path.startswith(("/api/", "/health/")):
        kind = "text/html; charset=utf-8"
        content = PAGE.format(title=html.escape(title), text=html.escape(text))
    else:
        kind = "application/problem+json"
        problem = {"type": "about:blank", "title": title, "status": 503, "detail": text}
        content = json.dumps(problem | {"instance": path})
    body = content.encode()
    lines = (
        "HTTP/1.1 503 Service Unavailable",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Retry-After: 2",
        "Connection: close",
    )
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if method == "HEAD" else body)
