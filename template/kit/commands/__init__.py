"""The commands that `make` and the image run, such as `python -m kit.commands.serve`."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from sqlmodel import Session


@contextmanager
def command_session() -> Iterator[Session]:
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
