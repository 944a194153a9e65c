"""Serve the API: `python -m kit.commands.serve`.

`--fd` serves on a socket that is open already, for `make dev`. `--check` starts it once without
serving, and ends with status 1 when it cannot start.
"""

import argparse
import asyncio
import errno
import socket
import subprocess
import sys
from collections.abc import Sequence

import uvicorn

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
    if settings.API_WORKERS > 1 and options.fd is None:
        _refuse_failing_workers()
    uvicorn.run(
        APPLICATION,
        host=settings.API_HOST,
        port=settings.API_PORT,
        fd=options.fd,
        workers=settings.API_WORKERS if options.fd is None else 1,
        log_config=None,
        root_path=settings.API_ROOT_PATH,
        forwarded_allow_ips=settings.FORWARDED_ALLOW_IPS,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
    )


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
