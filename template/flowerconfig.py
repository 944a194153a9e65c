"""Flower's settings: `celery -A app.core.celery flower` runs this file."""

from collections.abc import Iterable

from flower.events import Events  # type: ignore[import-untyped]
from flower.views import BaseHandler  # type: ignore[import-untyped]

from app.core.celery import celery_app
from app.core.config import StartupError, settings
from kit.connections import begin_process
from kit.queue import protect_pages, receive_events
from kit.redis import run_redis_call

begin_process("flower")

port = settings.FLOWER_PORT
address = settings.FLOWER_HOST
max_tasks = 10_000
persistent = False

if settings.FLOWER_PASSWORD:
    login = f"{settings.FLOWER_USERNAME}:{settings.FLOWER_PASSWORD.get_secret_value()}"
    if not login.isascii():
        raise StartupError(
            "FLOWER_USERNAME or FLOWER_PASSWORD holds a character outside ASCII, which Flower "
            "cannot compare: use ASCII letters, digits and signs."
        )
    basic_auth = [login]
elif not settings.is_local:
    raise StartupError(
        f"FLOWER_PASSWORD is not set and ENVIRONMENT is {settings.ENVIRONMENT}: set it in the "
        "environment, since anyone who reaches Flower can stop workers and read arguments."
    )


class Broker:
    """Flower's client for the lengths of queues, on the process's own connections.

    Flower's own opens a connection for each page, without a name and beyond any limit.
    """

    async def queues(self, names: Iterable[str]) -> list[dict[str, str | int]]:
        """Count the waiting messages of each queue, in the form of Flower's own client."""
        return await run_redis_call(lambda: [_queue_length(name) for name in names])


def _queue_length(name: str) -> dict[str, str | int]:
    with celery_app.connection_or_acquire() as connection:
        # Declaring writes nothing to Redis; it is kombu's way to read the length.
        declared = connection.default_channel.queue_declare(name)
    return {"name": name, "messages": declared.message_count}


BaseHandler.get_broker = lambda _: Broker()
Events.run = receive_events
protect_pages()
# --- Yours ---
