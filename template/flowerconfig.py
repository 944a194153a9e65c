"""Flower's settings: `celery -A app.core.celery flower` runs this file."""

from flower.events import Events  # type: ignore[import-untyped]
from flower.inspector import Inspector  # type: ignore[import-untyped]

from app.core.celery import celery_app
from app.core.config import StartupError, settings
from app.core.flower_events import receive_events
from app.core.process_start import begin_process

begin_process("flower")

port = settings.FLOWER_PORT
address = "127.0.0.1" if settings.is_local else "0.0.0.0"  # noqa: S104 (inside a container)
max_tasks = 10_000
persistent = False

if settings.FLOWER_PASSWORD:
    login = f"{settings.FLOWER_USERNAME}:{settings.FLOWER_PASSWORD.get_secret_value()}"
    if not login.isascii():
        raise StartupError(
            "FLOWER_USERNAME or FLOWER_PASSWORD holds a character outside ASCII, which Flower "
            "cannot compare: choose letters, digits and signs of ASCII."
        )
    basic_auth = [login]
elif not settings.is_local:
    raise StartupError(
        f"FLOWER_PASSWORD is not set and ENVIRONMENT is {settings.ENVIRONMENT}: set it in the "
        "environment, since whoever reaches Flower can stop workers and read arguments."
    )

Events.run = receive_events

# Flower asks workers with up to eight threads at once, two connections each.
Inspector.max_concurrency = 1
# A pooled broker connection keeps the socket on which it waited for answers; without the pool each
# is closed when the answers are in.
celery_app.conf.broker_pool_limit = 0
