"""What the API does before its first request and after its last."""

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
    """Make database and message handlers ready, and close every connection at the end.

    Raises:
        StartupError: when the service cannot start; its message says what to mend.
    """
    for finding in unknown_settings():
        logger.warning("%s", finding)
    begin_process("api")
    service.load()
    await init_db()
    setup_message_handlers()
    if not settings.is_local:
        # What is there by now stays: the garbage collector need not walk all of it under load. And
        # a request makes thousands of objects that reference counts free without it.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000)
    yield
    await service.engine.dispose()
    service.sync_engine.dispose()
