"""Weighs crates."""

from decimal import Decimal

from sqlmodel import col, select

from app.core.celery import celery_app
from app.core.config import settings
from app.core.database import sync_session_maker
from app.models.crate import Crate


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.weigh_crates")
def weigh_crates() -> int:
    """Weigh those that were not weighed; returns how many."""
    with sync_session_maker.begin() as session:
        statement = select(Crate).where(col(Crate.weight).is_(None)).with_for_update()
        crates = session.exec(statement).all()
        for crate in crates:
            crate.weight = Decimal(len(crate.label)) / 4
    return len(crates)
