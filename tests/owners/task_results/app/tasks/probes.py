"""Measurements, whose results are of all kinds."""

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

from pydantic import BaseModel
from sqlmodel import func, select

from app.core.celery import celery_app
from app.core.config import settings
from kit.database import open_session
from kit.models import AuditEntry


class Sample(BaseModel):
    """What a laboratory sends."""

    grams: int


async def count_probes() -> int:
    """Count the entries of the audit trail, as a request would."""
    async with open_session() as session:
        return (await session.exec(select(func.count()).select_from(AuditEntry))).one()


KINDS: dict[str, Callable[[], object]] = {
    "spectrum": lambda: b"\xff\x00\xfe",
    "price": lambda: {"net": Decimal("19.90"), "_salt": 1},
    "broken-sensor": lambda: [0.5, float("nan"), float("inf")],
    "moment": lambda: [datetime(2026, 5, 17, 8, 30, tzinfo=UTC), date(2026, 5, 17)],
    "serial": lambda: UUID(int=7),
    "nothing": lambda: None,
    "distance": lambda: 2**200,
    "colours": lambda: {"red", "green"},
    "sample": lambda: Sample.model_validate({"grams": "many"}),
    "count": lambda: asyncio.run(count_probes()),
}


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.measure")
def measure(kind: str) -> object:
    """Measure, and return what was found."""
    return KINDS[kind]()
