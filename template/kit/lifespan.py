"""The lifespan of the API: the kit's steps before the first request and after the last."""

import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kit.connections import begin_process
from kit.messages import setup_message_handlers
from kit.migrations import init_db
from kit.places import service
from kit.settings import settings, unknown_settings

logger = logging.getLogger(__name__)


@asynccontextmanager
async def kit_lifespan() -> AsyncIterator[None]:
    """Prepare the database and the message handlers, and close every connection at the end.

    Raises:
        StartupError: when the service cannot start; its message says what to fix.
    """
    for finding in unknown_settings():
        logger.warning("%s", finding)
    begin_process("api")
    service.load()
    await init_db()
    setup_message_handlers()
    if not settings.is_local:
        # The objects that exist by now stay: the garbage collector need not walk all of them under
        # load. And a request makes thousands of objects that reference counts free without it.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000)
    yield
    await service.engine.dispose()
    service.sync_engine.dispose()
