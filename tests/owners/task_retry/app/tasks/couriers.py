"""Calls couriers, who do not always answer."""

from typing import Any

from celery import Task

from app.core.celery import celery_app
from app.core.config import settings


class CourierBusyError(Exception):
    """The courier does not answer."""


@celery_app.task(bind=True, max_retries=3, name=f"{settings.CELERY_TASKS_MODULE}.call_courier")
def call_courier(self: Task[..., Any], answers_at: int) -> int:
    """Call until the courier answers; returns how many calls were in vain."""
    if self.request.retries < answers_at:
        raise self.retry(exc=CourierBusyError("no answer"), countdown=0.1)
    return self.request.retries


@celery_app.task(
    bind=True,
    autoretry_for=(CourierBusyError,),
    retry_backoff=1,
    retry_jitter=False,
    max_retries=5,
    name=f"{settings.CELERY_TASKS_MODULE}.track_parcel",
)
def track_parcel(self: Task[..., Any], known_at: int) -> int:
    """Ask until the courier knows the parcel; returns how many questions were in vain."""
    if self.request.retries < known_at:
        raise CourierBusyError("not yet")
    return self.request.retries
