"""Price lists, which a program sends as CSV."""

from http import HTTPStatus
from io import TextIOWrapper
from itertools import islice

from fastapi import APIRouter, UploadFile
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel
from sqlalchemy import insert
from sqlmodel import col, func, select

from app.core.celery import enqueue
from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.price import PriceLine, PriceList
from app.tasks.prices import import_prices
from kit.errors import Problem

router = APIRouter(prefix="/price-lists", tags=["Prices"])

BATCH = 5000


class Progress(BaseModel):
    """How far an import is."""

    id: int
    lines: int
    left: int
    mistakes: int


@router.post("", status_code=HTTPStatus.ACCEPTED, max_body_size=20_000_000)
async def send_price_list(session: SessionDep, file: UploadFile) -> Progress:
    """Store a list's lines, and have a task import them."""
    sent = PriceList(name=file.filename or "")
    session.add(sent)
    await session.flush()
    lines = enumerate(TextIOWrapper(file.file, encoding="utf-8-sig"), 1)

    def next_rows() -> list[dict[str, object]]:
        return [
            {"list_id": sent.id, "number": number, "text": text.rstrip("\r\n")}
            for number, text in islice(lines, BATCH)
        ]

    try:
        while rows := await run_in_threadpool(next_rows):
            await session.execute(insert(PriceLine), rows)
            sent.lines += len(rows)
    except UnicodeDecodeError:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "Send the list in UTF-8.") from None
    await session.commit()
    await enqueue(import_prices, sent.id)
    return Progress(id=sent.id or 0, lines=sent.lines, left=sent.lines, mistakes=0)


@router.get("/{list_id}")
async def read_progress(session: ReadSessionDep, list_id: int) -> Progress:
    """How far an import is."""
    sent = await session.get(PriceList, list_id)
    if sent is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no list {list_id}.")
    statement = select(func.count(), func.count(col(PriceLine.mistake)))
    lines, mistakes = (await session.exec(statement.where(PriceLine.list_id == list_id))).one()
    return Progress(id=list_id, lines=sent.lines, left=lines - mistakes, mistakes=mistakes)
