"""Runs that write invoices, over the API."""

from http import HTTPStatus

from fastapi import APIRouter

from app.core.celery import enqueue
from app.tasks.billing.invoice_runs import run_invoices

router = APIRouter(prefix="/invoice-runs", tags=["Invoices"])


@router.post("", status_code=HTTPStatus.ACCEPTED)
async def start_run() -> str:
    """Start one; returns the id of its task."""
    return (await enqueue(run_invoices, "2026-05")).id
