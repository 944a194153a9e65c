"""Probes over the API."""

from http import HTTPStatus
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from app.core.celery import enqueue
from app.tasks.probes import measure

router = APIRouter(prefix="/probes", tags=["Probes"])


class NewProbe(BaseModel):
    """What is to be measured."""

    kind: Literal[
        "spectrum",
        "price",
        "broken-sensor",
        "moment",
        "serial",
        "nothing",
        "distance",
        "colours",
        "sample",
        "count",
    ]


@router.post("", status_code=HTTPStatus.ACCEPTED)
async def start_probe(new: NewProbe) -> str:
    """Start one; returns the id of its task."""
    return (await enqueue(measure, new.kind)).id
