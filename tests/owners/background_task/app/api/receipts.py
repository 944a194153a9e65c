"""Receipts, written after the answer."""

import asyncio
from collections.abc import Sequence

from fastapi import APIRouter, BackgroundTasks
from sqlmodel import select

from app.core.dependencies import ReadSessionDep
from app.models.receipt import Receipt
from kit.database import open_session

router = APIRouter(prefix="/receipts", tags=["Receipts"])

# asyncio keeps no reference to a task: without this one it could vanish before its end.
_running: set[asyncio.Task[None]] = set()


async def store(receipt: Receipt) -> None:
    """Store a receipt."""
    async with open_session() as session:
        session.add(receipt)
        await session.commit()


@router.post("/later", status_code=202)
async def store_later(receipt: Receipt, tasks: BackgroundTasks) -> None:
    """Store a receipt after the answer is sent."""
    tasks.add_task(store, Receipt(name=receipt.name))


@router.post("/meanwhile", status_code=202)
async def store_meanwhile(receipt: Receipt) -> None:
    """Store a receipt while the answer is sent."""
    task = asyncio.create_task(store(Receipt(name=receipt.name)))
    _running.add(task)
    task.add_done_callback(_running.discard)


@router.get("")
async def list_receipts(session: ReadSessionDep) -> Sequence[Receipt]:
    """List the receipts."""
    return (await session.exec(select(Receipt))).all()
