"""Tasks that show that the queue works."""

import logging
from typing import TypedDict

from celery import shared_task

from kit.context import get_request_id, get_task_id
from kit.settings import settings

logger = logging.getLogger(__name__)


class Pong(TypedDict):
    """What `ping` gives back."""

    message: str
    request_id: str


@shared_task(name=f"{settings.CELERY_TASKS_MODULE}.ping")
def ping(message: str) -> Pong:
    """Give back the message, with the id of the request that sent the task."""
    logger.info("%spong: %s", get_task_id(), message)
    return Pong(message=message, request_id=get_request_id())
