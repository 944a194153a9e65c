"""Thumbnails, made by a library that some images crash."""

import os

from app.core.celery import celery_app
from app.core.config import settings


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.make_thumbnail")
def make_thumbnail(image: str) -> str:
    """Make one; returns its name."""
    if image == "bomb.png":
        os.abort()  # as the library does
    return f"small-{image}"
