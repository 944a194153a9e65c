"""Runs that write the invoices of a month."""

from app.core.celery import celery_app
from app.core.config import settings


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.billing.run_invoices")
def run_invoices(month: str) -> str:
    """Write them."""
    return f"invoices of {month}"
