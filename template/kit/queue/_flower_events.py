"""Flower's receiver of the events of workers and tasks."""

import logging
import time

from celery.events import EventReceiver
from flower.events import Events  # type: ignore[import-untyped]

from kit.places import service

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 5
"""Pause between two attempts to reach a Redis that is away."""


def receive_events(events: Events) -> None:
    """Receive events until the process ends, in the thread that Flower has for them.

    Flower's own doubles its pause with each attempt, without a limit: when Redis comes back, it may
    miss events for as long again as Redis was away.
    """
    while True:
        try:
            with service.celery_app.connection() as connection:
                handlers = {"*": events.on_event}
                receiver = EventReceiver(connection, handlers=handlers, app=service.celery_app)
                receiver.capture(limit=None, timeout=None, wakeup=True)
        except Exception as error:  # noqa: BLE001 (after any error, events have to be received)
            logger.warning("Redis is lost (%s); Flower tries again in %d s", error, PAUSE_SECONDS)
            time.sleep(PAUSE_SECONDS)
