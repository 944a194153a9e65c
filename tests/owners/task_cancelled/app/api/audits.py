"""Audits over the API."""

from http import HTTPStatus

from fastapi import APIRouter

from app.core.celery import enqueue
from app.tasks.audits import audit, cancel
from kit.redis import run_redis_call

router = APIRouter(prefix="/audits", tags=["Audits"])


@router.post("", status_code=HTTPStatus.ACCEPTED)
async def begin_audit() -> str:
    """Begin an audit; returns its task's id."""
    return (await enqueue(audit, 600)).id


@router.delete("/{task_id}", status_code=HTTPStatus.NO_CONTENT)
async def cancel_audit(task_id: str) -> None:
    """Cancel an audit."""
    await run_redis_call(lambda: cancel(task_id))
