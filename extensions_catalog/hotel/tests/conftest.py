"""A hotel on 1 May 2030, with one room and one guest."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import date
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlmodel import delete
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.config import settings
from app.extensions.hotel import dates
from app.extensions.hotel.models import HotelBooking, HotelGuest, HotelRoom
from app.extensions.hotel.tests.stays import booked, may
from kit import messages
from kit.messages import EVERY_MESSAGE, Message, handles

CONNECTIONS = 10


@pytest.fixture(autouse=True)
def first_of_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the current date to 1 May 2030."""
    monkeypatch.setattr(dates, "today", lambda: date(2030, 5, 1))


@pytest.fixture
async def room(db_session: AsyncSession) -> HotelRoom:
    room = HotelRoom(name="101", beds=2)
    db_session.add(room)
    await db_session.commit()
    return room


@pytest.fixture
async def guest(db_session: AsyncSession) -> HotelGuest:
    guest = HotelGuest(name="Ada Lovelace", email="ada@example.com")
    db_session.add(guest)
    await db_session.commit()
    return guest


@pytest.fixture
async def booking(db_session: AsyncSession, room: HotelRoom, guest: HotelGuest) -> HotelBooking:
    """A booking of the room for the guest, from the 4th to the 7th."""
    booking = booked(room, guest, may(4, 7))
    db_session.add(booking)
    await db_session.commit()
    return booking


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Mapping[str, Any]]]:
    """Names and payloads of the messages whose sender has committed; no other handler gets them."""
    monkeypatch.setattr(messages, "_handlers", {})
    published: list[tuple[str, Mapping[str, Any]]] = []

    @handles(EVERY_MESSAGE, after_commit=True)
    def note(message: Message) -> None:
        published.append((message.name, message.payload))

    return published


@pytest.fixture
async def committing_sessions(
    test_engine: AsyncEngine,
) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """Sessions with a connection each, for concurrent requests; their rows are deleted afterwards.

    The connections are made beforehand: the time of each log-in would spread the requests out.
    """
    engine = create_async_engine(
        test_engine.url, connect_args=settings.database_connect_args, pool_size=CONNECTIONS
    )
    connections = await asyncio.gather(*(engine.connect() for _ in range(CONNECTIONS)))
    for connection in connections:
        await connection.close()
    maker = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)
    yield maker
    async with maker.begin() as session:
        for table in (HotelBooking, HotelRoom, HotelGuest):
            await session.exec(delete(table))
    await engine.dispose()
