"""Signals, and a stream of those that come."""

import asyncio
from collections.abc import AsyncIterable

from fastapi import APIRouter
from fastapi.sse import EventSourceResponse
from sqlmodel import col, select

from app.core.dependencies import SessionDep
from app.models.signal import Signal
from kit.database import open_read_session

ROUNDS = 3

router = APIRouter(prefix="/signals", tags=["Signals"])


@router.post("", status_code=201)
async def create_signal(signal: Signal, session: SessionDep) -> Signal:
    """Store a signal."""
    session.add(signal)
    await session.commit()
    return signal


@router.get("/events", response_class=EventSourceResponse)
async def send_signals() -> AsyncIterable[Signal]:
    """Send each signal once, those that come meanwhile too."""
    last = 0
    for _ in range(ROUNDS):
        async with open_read_session() as session:
            new = await session.exec(
                select(Signal).where(col(Signal.id) > last).order_by(col(Signal.id))
            )
            signals = new.all()
        for signal in signals:
            yield signal
            last = signal.id or last
        await asyncio.sleep(0.1)
