"""Imports price lists."""

import csv

from celery import Task
from pydantic import ValidationError
from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select

from app.core.celery import celery_app
from app.core.config import settings
from app.core.database import sync_session_maker
from app.models.price import Price, PriceInput, PriceLine

BATCH = 1000
UPSERT = insert(Price)
UPSERT = UPSERT.on_conflict_do_update(
    index_elements=["article"], set_={"amount": UPSERT.excluded.amount}
)


@celery_app.task(
    name=f"{settings.CELERY_TASKS_MODULE}.import_prices", bind=True, track_started=True
)
def import_prices(self: Task[..., int], list_id: int) -> int:
    """Import the lines of a list that are left; returns how many this run has looked at."""
    count = 0
    while lines := import_batch(list_id):
        count += lines
        self.update_state(state="IMPORTING", meta={"lines": count})
    return count


def import_batch(list_id: int) -> int:
    """Import some lines in one transaction: a run that is lost has done them, or has not begun."""
    with sync_session_maker.begin() as session:
        lines = session.exec(
            select(PriceLine)
            .where(PriceLine.list_id == list_id, col(PriceLine.mistake).is_(None))
            .order_by(col(PriceLine.number))
            .limit(BATCH)
            .with_for_update(skip_locked=True)  # another run of the task has the others
        ).all()
        prices: dict[str, PriceInput] = {}
        done = []
        for line in lines:
            try:
                price = read_price(line.text)
            except ValueError as error:
                line.mistake = f"{error}"
            else:
                prices[price.article] = price  # of two lines in one list the later one counts
                done.append(line.number)
        if prices:
            # In one order, so that two lists at the same time do not wait for each other.
            rows = [prices[article].model_dump() for article in sorted(prices)]
            session.execute(UPSERT, rows)
        this_list = col(PriceLine.list_id) == list_id
        session.execute(delete(PriceLine).where(this_list, col(PriceLine.number).in_(done)))
    return len(lines)


def read_price(text: str) -> PriceInput:
    """Read a line.

    Raises:
        ValueError: with what is wrong with it, for people.
    """
    fields = next(csv.reader([text], delimiter=";"), [])
    if len(fields) != len(PriceInput.model_fields):
        raise ValueError(f"{len(fields)} fields instead of {len(PriceInput.model_fields)}")
    try:
        return PriceInput.model_validate(dict(zip(PriceInput.model_fields, fields, strict=True)))
    except ValidationError as error:
        mistakes = [f"{each['loc'][0]}: {each['msg']}" for each in error.errors()]
        raise ValueError("; ".join(mistakes)) from None
