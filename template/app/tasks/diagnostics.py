"""Tasks that show that the queue works."""

import logging
from typing import TypedDict

from app.core.celery import celery_app
from app.core.config import settings
from app.core.request_context import get_request_id
from app.core.task_context import get_task_id

logger = logging.getLogger(__name__)


class Pong(TypedDict):
    """What `ping` gives back."""

    message: str
    request_id: str


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.ping")
def ping(message: str) -> Pong:
    """Give back the message, with the id of the request that sent the task."""
    logger.info("%spong: %s", get_task_id(), message)
    return Pong(message=message, request_id=get_request_id())
