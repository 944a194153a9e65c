"""Tasks and handlers for the tests, of which one sends another."""

import logging

from sqlalchemy import literal
from sqlmodel import select

from app.core.celery import celery_app
from app.core.config import settings
from app.core.database import sync_session_maker
from kit.messages import Message, handles

logger = logging.getLogger(__name__)

FIRST = f"{settings.CELERY_TASKS_MODULE}.telemetry.first"
SECOND = f"{settings.CELERY_TASKS_MODULE}.telemetry.second"
BROKEN = f"{settings.CELERY_TASKS_MODULE}.telemetry.broken"


@celery_app.task(name=FIRST, ignore_result=True)
def first(value: str) -> None:
    """Query, and send the other one."""
    with sync_session_maker() as session:
        session.exec(select(literal(value))).one()
    logger.info("the first task runs")
    second.delay(value)


@celery_app.task(name=SECOND, ignore_result=True)
def second(value: str) -> None:
    """Query."""
    with sync_session_maker() as session:
        session.exec(select(literal(value))).one()
    logger.info("the second task runs")


@celery_app.task(name=BROKEN, ignore_result=True)
def broken(value: str) -> None:
    """Fail, quoting what no one else should read."""
    secret = settings.SECRET_KEY.get_secret_value() if settings.SECRET_KEY else ""
    raise LookupError(f"nothing there, with {secret}\n{value}")


@handles("telemetry.tested")
def query_before_commit(message: Message) -> None:
    """Query in the sender's transaction."""
    message.session.exec(select(literal("before")))
    logger.info("the handler before commit runs")


@handles("telemetry.tested", after_commit=True)
def send_after_commit(message: Message) -> None:
    """Send the first task."""
    logger.info("the handler after commit runs")
    first.delay(message.payload["value"])
