"""Surveys over the API."""

from http import HTTPStatus

from celery import chain, chord
from fastapi import APIRouter
from pydantic import BaseModel

from app.core.celery import enqueue
from app.tasks.surveys import count_answer, print_sum, sum_answers

router = APIRouter(prefix="/surveys", tags=["Surveys"])


class NewSurvey(BaseModel):
    """The answers."""

    answers: list[int]


@router.post("", status_code=HTTPStatus.ACCEPTED)
async def evaluate(new: NewSurvey) -> str:
    """Evaluate a survey; returns the id of the last task."""
    counts = chord([count_answer.s(answer) for answer in new.answers], sum_answers.s())
    return (await enqueue(chain(counts, print_sum.s("all")))).id
