"""Audits, which take long and can be cancelled."""

import time

from celery import Task
from celery.exceptions import Ignore

from app.core.celery import celery_app
from app.core.config import settings
from kit.redis import redis_client

STEP_SECONDS = 0.1


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.audit", bind=True)
def audit(self: Task[..., int], steps: int) -> int:
    """Audit step by step, until it is done or cancelled."""
    for _ in range(steps):
        if redis_client().exists(cancelled_key(self.request.id)):
            self.update_state(state="CANCELLED")
            raise Ignore
        time.sleep(STEP_SECONDS)
    return steps


def cancelled_key(task_id: str | None) -> str:
    """Name the key that a task looks for."""
    return f"{settings.REDIS_KEY_PREFIX}cancelled:{task_id}"


def cancel(task_id: str) -> None:
    """Have a task end at its next step, or when it begins."""
    redis_client().set(cancelled_key(task_id), 1, ex=settings.CELERY_RESULT_EXPIRES)
