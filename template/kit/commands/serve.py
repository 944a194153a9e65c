"""Serve the API: `python -m kit.commands.serve`.

`--fd` serves on a socket that is open already: that of `make dev`, or 3 for that of a systemd unit.
`--check` starts it once without serving, and ends with status 1 when it cannot start.
"""

import argparse
import asyncio
import errno
import json
import os
import resource
import socket
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import ClassVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from kit.connections import refuse_more_than_the_plan
from kit.process import configure_logging
from kit.settings import BASE_DIR, StartupError, settings

APPLICATION = "app.main:app"

GRACEFUL_SHUTDOWN_SECONDS = 5
"""Grace period for open requests when the API stops."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until a signal to stop.

    Raises:
        StartupError: when a setting is wrong, the port is in use, or the plan has too few
            connections; its message says which.
    """
    parser = argparse.ArgumentParser(prog="python -m kit.commands.serve", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--fd", type=int, help="descriptor of a listening socket to serve on")
    mode.add_argument("--check", action="store_true", help="start once, without serving")
    options = parser.parse_args(arguments)
    if options.check:
        asyncio.run(_start_once())
        return
    configure_logging()
    if options.fd is None:
        refuse_taken_port(settings.API_HOST, settings.API_PORT, setting="API_PORT")
    refuse_more_than_the_plan(settings)
    if settings.API_WORKERS > 1:
        _refuse_failing_workers()
    _allow_open_files()
    uvicorn.run(
        APPLICATION,
        host=settings.API_HOST,
        port=settings.API_PORT,
        fd=options.fd,
        http=f"kit.commands.serve:{_LimitedProtocol.__name__}",
        ws_max_size=settings.API_MAX_BODY_SIZE,
        ws_per_message_deflate=False,  # of 64 kB it makes 64 messages of the largest size, at once
        workers=settings.API_WORKERS,
        log_config=None,
        root_path=settings.API_ROOT_PATH,
        forwarded_allow_ips=settings.FORWARDED_ALLOW_IPS,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
        timeout_worker_healthcheck=WORKER_SILENT_SECONDS,
    )


WORKER_SILENT_SECONDS = 60
"""After which one of `API_WORKERS` is replaced. With uvicorn's 5 none starts on a slow machine."""

OPEN_FILES = 8_192
"""Connections that one process can have; each whose client does not read takes some 120 kB."""

HEADERS_LIMIT = 65_536
"""Bytes of a request that are not its body, as in h11; nginx allows half of it."""

SLOWEST_BYTES_PER_SECOND = 4_096

MOST_ARRIVING = 2_048
"""Requests that may be arriving at one process, some 40 kB each; beyond, the oldest is refused. One
that is not cut off arrives within milliseconds, so those of others are served meanwhile."""

FIRST_REQUEST_SECONDS = 1
"""How long after the signal to stop a connection that is open may send its first request."""

LINGER_SECONDS = 1
"""How long what a refused client still sends is dropped, so that it gets to read the answer."""


class _LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits on the size of headers and on the time to send a request.

    uvicorn has neither with this parser. Source: https://github.com/Kludex/uvicorn/issues/157
    """

    _began: float | None = None  # when the request that is arriving began
    _received = 0
    _body = 0
    _arriving: RequestResponseCycle | None = None  # what serves the body that is arriving
    _is_refused = False
    _is_ending = False
    _all_arriving: ClassVar[OrderedDict["_LimitedProtocol", None]] = OrderedDict()
    """Connections with a request that is arriving, the oldest first."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin()  # a client that sends nothing is late, too
        self._refuse_when_late()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        self._timer.cancel()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._end()
        self._timer.cancel()
        super().handle_websocket_upgrade()
        if not getattr(self.transport.get_protocol(), "handshake_initiated", True):
            # Of one with a body, or with longer headers than it reads, it says and ends nothing.
            self._refuse(HTTPStatus.BAD_REQUEST)

    def shutdown(self) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle and cycle.scope["state"].get("ends_with_server"):
            self.transport.close()  # a stream, which would last until the grace period is over
        if cycle or self._is_ending:
            super().shutdown()
            return
        # A proxy that has just connected is about to ask, and could not send a POST again.
        self._is_ending = True
        self.loop.call_later(FIRST_REQUEST_SECONDS, self.shutdown)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if self._began is None:
            self._begin()
        self._received += len(data)
        super().data_received(data)
        # Trailers and the framing of chunks count as headers, beyond as many bytes as the body has.
        if self._received > HEADERS_LIMIT + 2 * self._body:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_headers_complete(self) -> None:
        if sum(len(name) + len(value) for name, value in self.headers) > HEADERS_LIMIT:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            raise ValueError  # so that the parser ends
        super().on_headers_complete()
        self._arriving = self.cycle
        cycle: RequestResponseCycle | None = self.cycle
        if cycle and self._is_ending:
            cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._end()
        self._arriving = None
        self._received = self._body = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (the base class's signature)
        self._refuse(HTTPStatus.BAD_REQUEST)

    def _begin(self) -> None:
        self._began = self.loop.time()
        self._all_arriving[self] = None
        if len(self._all_arriving) > MOST_ARRIVING:
            next(iter(self._all_arriving))._refuse(HTTPStatus.REQUEST_TIMEOUT)  # noqa: SLF001

    def _end(self) -> None:
        self._began = None
        self._all_arriving.pop(self, None)

    def _refuse_when_late(self) -> None:
        now, cycle, seconds = self.loop.time(), self._arriving, settings.API_RECEIVE_TIMEOUT
        if self.flow.read_paused or (cycle and cycle.waiting_for_100_continue):
            self._began = now  # the client waits for the service
        if not (cycle and cycle.response_complete):  # else the rest is of no use
            seconds += self._body / SLOWEST_BYTES_PER_SECOND
        left = seconds if self._began is None else self._began + seconds - now
        if left > 0:
            self._timer = self.loop.call_later(left, self._refuse_when_late)
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _refuse(self, status: HTTPStatus) -> None:
        self._all_arriving.pop(self, None)
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        self._timer.cancel()
        before: RequestResponseCycle | None = self.cycle
        if cycle := self._arriving:
            may_answer = not cycle.response_started
            cycle.disconnected = True
            cycle.message_event.set()
        else:
            may_answer = before is None or before.response_complete
        if not may_answer:
            self.transport.close()
            return
        document = {"type": "about:blank", "title": status.phrase, "status": status}
        content = json.dumps(document | {"detail": REFUSALS[status]})
        self.transport.write(
            f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(content)}\r\nconnection: close\r\n\r\n{content}".encode()
        )
        self.flow.resume_reading()
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)


REFUSALS = {
    HTTPStatus.BAD_REQUEST: "This is no request of HTTP, or of a WebSocket.",
    HTTPStatus.REQUEST_TIMEOUT: "The request did not arrive in time.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: f"Send at most {HEADERS_LIMIT:,} bytes of headers.",
}


def refuse_taken_port(host: str, port: int, *, setting: str) -> None:
    """Check that a server can listen there; `setting` is the name of the port's setting.

    Raises:
        StartupError: when it cannot, with the reason and what to do.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise StartupError(
            f"{host!r} is not an address of this machine ({error.strerror}): set the host to "
            "127.0.0.1, or to 0.0.0.0 for all addresses."
        ) from None
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            # As servers set it: a port with connections in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                raise StartupError(_explain(error, host, port, setting)) from None


def _explain(error: OSError, host: str, port: int, setting: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {host} is in use by another program, perhaps by this service started "
            f"before. End that program, or set {setting} to another port."
        )
    return f"cannot listen on port {port} of {host} ({error.strerror}): set {setting} to another."


def _allow_open_files() -> None:
    # Each connection is one. With the usual 1,024, as many silent ones would keep all others out.
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if most == resource.RLIM_INFINITY else min(most, OPEN_FILES)
    if resource.RLIM_INFINITY != now < wanted:
        with suppress(OSError, ValueError):  # macOS has a limit beside this one
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _refuse_failing_workers() -> None:
    # Depending on its version, uvicorn's supervisor of several workers either restarts a failing
    # worker again and again or ends with status 0. So one start is tried before.
    command = [sys.executable, "-m", "kit.commands.serve", "--check"]
    if status := subprocess.run(command, cwd=BASE_DIR, check=False).returncode:
        raise SystemExit(status)


async def _start_once() -> None:
    from kit.connections import refuse_more_than_redis_gives  # noqa: PLC0415
    from kit.places import service  # noqa: PLC0415

    app = service.application  # this import makes the application
    async with app.router.lifespan_context(app):
        refuse_more_than_redis_gives(starting=settings.API_WORKERS)


if __name__ == "__main__":
    main()
    # A thread in a request would keep a container's first process, on which SIGTERM has no effect.
    os._exit(0)
