"""The commands that `make` and the image run, such as `python -m kit.commands.serve`."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from sqlmodel import Session

INTERRUPTED = 130
"""The status with which shells report a program that Ctrl-C has ended."""


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run a command and exit with its status, without a stack trace for what is no error of it.

    It ends quietly at Ctrl-C, and when the reader of its output has ended, as `head` does. A server
    that is lost, full or read-only is one line.
    """
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        # Otherwise Python would try to write the rest once more, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except Exception as error:
        from kit.causes import explain, is_outage  # noqa: PLC0415 (most commands do not fail)

        if not is_outage(error):
            raise
        sys.exit(f"error: {' '.join(explain(error))}")
    sys.exit(status)


@contextmanager
def command_session() -> "Iterator[Session]":
    """Open a session, and commit it when the block ends without an error.

    Raises:
        StartupError: when the database cannot be reached or its migrations do not match the code.
    """
    # Imported only now, so that a wrong argument is reported at once.
    from kit.migrations import init_db  # noqa: PLC0415
    from kit.places import service  # noqa: PLC0415
    from kit.process import start_local_services  # noqa: PLC0415

    start_local_services()
    asyncio.run(init_db())
    with service.sync_session_maker.begin() as session:
        yield session
    service.sync_engine.dispose()
