"""Measurements, whose results are of all kinds."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

from app.core.celery import celery_app
from app.core.config import settings

KINDS: dict[str, Callable[[], object]] = {
    "spectrum": lambda: b"\xff\x00\xfe",
    "price": lambda: {"net": Decimal("19.90"), "_salt": 1},
    "broken-sensor": lambda: [0.5, float("nan"), float("inf")],
    "moment": lambda: [datetime(2026, 5, 17, 8, 30, tzinfo=UTC), date(2026, 5, 17)],
    "serial": lambda: UUID(int=7),
    "nothing": lambda: None,
    "distance": lambda: 2**200,
    "colours": lambda: {"red", "green"},
}


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.measure")
def measure(kind: str) -> object:
    """Measure, and return what was found."""
    return KINDS[kind]()
