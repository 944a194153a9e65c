"""Surveys, whose answers are counted in parallel."""

from collections.abc import Sequence

from app.core.celery import celery_app
from app.core.config import settings


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.count_answer")
def count_answer(answer: int) -> int:
    """Count one."""
    if answer < 0:
        raise ValueError(f"{answer} is no answer")
    return answer * 2


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.sum_answers")
def sum_answers(counts: Sequence[int]) -> int:
    """Add up what was counted."""
    return sum(counts)


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.print_sum")
def print_sum(total: int, title: str) -> str:
    """Write it out."""
    return f"{title}: {total}"
