"""What `make` and the image run: `python -m kit.commands.serve`."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from sqlmodel import Session


@contextmanager
def command_session() -> Iterator[Session]:
    """A session whose work is committed when the block ends without an error.

    Raises:
        StartupError: when the database cannot be reached or does not fit the code.
    """
    # Imported only now, so that a wrong argument is told at once.
    from kit.migrations import init_db  # noqa: PLC0415
    from kit.places import service  # noqa: PLC0415
    from kit.process import start_local_services  # noqa: PLC0415

    start_local_services()
    asyncio.run(init_db())
    with service.sync_session_maker.begin() as session:
        yield session
    service.sync_engine.dispose()
