"""Requests at the same moment, each with a connection and a transaction of its own."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import date, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlmodel import Session, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.config import settings
from app.core.dependencies import get_session
from app.extensions.hotel import dates
from app.extensions.hotel.bookings import book_if_free
from app.extensions.hotel.models import (
    ROOM_IS_FREE,
    BookingStatus,
    HotelBooking,
    HotelGuest,
    HotelRoom,
)
from app.extensions.hotel.tasks import daily_task
from app.extensions.hotel.tests.stays import booked, may
from app.main import app

Sessions = async_sessionmaker[AsyncSession]

BOOKINGS = "/api/hotel/bookings"


@pytest.fixture
async def room_and_guest(committing_sessions: Sessions) -> tuple[HotelRoom, HotelGuest]:
    room, guest = HotelRoom(name="101"), HotelGuest(name="Ada Lovelace")
    async with committing_sessions.begin() as session:
        session.add_all([room, guest])
    return room, guest


@pytest.fixture
async def committing_client(committing_sessions: Sessions) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose requests do not take turns on one connection."""

    async def session_of_its_own() -> AsyncIterator[AsyncSession]:
        async with committing_sessions() as session:
            yield session

    app.dependency_overrides[get_session] = session_of_its_own
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        yield http
    app.dependency_overrides.clear()


@pytest.mark.parametrize("attempt", range(5))
async def test_of_many_who_want_the_room_one_gets_it(
    committing_client: httpx.AsyncClient,
    committing_sessions: Sessions,
    room_and_guest: tuple[HotelRoom, HotelGuest],
    published: list[tuple[str, Mapping[str, Any]]],
    attempt: int,
) -> None:
    """All nights include the one from the 10th to the 11th; each of the others gets a 409."""
    room, guest = room_and_guest
    wishes = [
        {
            "room_id": room.id,
            "guest_id": guest.id,
            "arrival": f"2030-05-{10 - days:02}",
            "departure": f"2030-05-{11 + days:02}",
        }
        for days in (0, 1, 2, 3, 4, 3, 2, 1, 0, 5)
    ]
    answers = await asyncio.gather(
        *(committing_client.post(BOOKINGS, json=wish) for wish in wishes)
    )
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 9}
    async with committing_sessions() as session:
        [kept] = (await session.exec(select(HotelBooking))).all()
    [created] = [answer.json() for answer in answers if answer.status_code == 201]
    assert (kept.id, kept.arrival.isoformat()) == (created["id"], created["arrival"])
    assert [payload["booking_id"] for _, payload in published] == [kept.id]


@pytest.mark.slow
async def test_none_of_them_ends_in_a_deadlock(
    committing_sessions: Sessions, room_and_guest: tuple[HotelRoom, HotelGuest]
) -> None:
    """Threads, for the moment to be the same; with plain inserts it happens in one of 30 rounds."""
    engine = create_engine(settings.SYNC_DATABASE_URL, connect_args=settings.sync_connect_args)
    barrier = threading.Barrier(6, timeout=20)
    nights = [date(2030, 5, 1) + timedelta(days=days) for days in range(200)]

    def book_each_night() -> Counter[str]:
        outcomes: Counter[str] = Counter()
        with Session(engine) as session:
            for night in nights:
                wish = book_if_free(*room_and_guest, Range(night, night + timedelta(days=1)))
                barrier.wait()
                try:
                    booking = session.scalar(wish)
                    session.commit()
                    outcomes["taken" if booking is None else "booked"] += 1
                except IntegrityError:
                    session.rollback()
                    outcomes["taken"] += 1
                except OperationalError as error:
                    session.rollback()
                    outcomes[type(error.orig).__name__] += 1
        return outcomes

    results = await asyncio.gather(
        *(asyncio.to_thread(book_each_night) for _ in range(barrier.parties))
    )
    engine.dispose()
    assert sum(results, Counter()) == {"booked": 200, "taken": 1000}


@pytest.mark.parametrize("first_commits", [True, False])
async def test_a_second_booking_waits_for_what_becomes_of_the_first(
    committing_sessions: Sessions,
    room_and_guest: tuple[HotelRoom, HotelGuest],
    first_commits: bool,
) -> None:
    async with committing_sessions() as first, committing_sessions() as second:
        first.add(booked(*room_and_guest, may(4, 7)))
        await first.flush()
        backend = await second.scalar(text("SELECT pg_backend_pid()"))
        second.add(booked(*room_and_guest, may(6, 9)))
        waiting = asyncio.create_task(second.commit())
        await until_blocked(committing_sessions, backend)

        if first_commits:
            await first.commit()
            with pytest.raises(IntegrityError, match=ROOM_IS_FREE):
                await waiting
        else:
            await first.rollback()
            await waiting


async def test_of_two_who_cancel_one_gets_a_conflict(
    committing_client: httpx.AsyncClient,
    committing_sessions: Sessions,
    room_and_guest: tuple[HotelRoom, HotelGuest],
    published: list[tuple[str, Mapping[str, Any]]],
) -> None:
    booking = booked(*room_and_guest, may(4, 7))
    async with committing_sessions.begin() as session:
        session.add(booking)
    cancel = f"{BOOKINGS}/{booking.id}/cancellation"
    answers = await asyncio.gather(*(committing_client.post(cancel) for _ in range(5)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 4}
    assert [name for name, _ in published] == ["hotel.booking-cancelled"]


@pytest.mark.parametrize(("day", "work"), [(1, "announced"), (2, "no_shows")])
async def test_a_second_run_of_the_daily_task_passes_over_what_the_first_has_in_hand(
    committing_sessions: Sessions,
    room_and_guest: tuple[HotelRoom, HotelGuest],
    monkeypatch: pytest.MonkeyPatch,
    day: int,
    work: str,
) -> None:
    """Here the task really commits, since no fixture has put it into a transaction."""
    monkeypatch.setattr(dates, "today", lambda: date(2030, 5, day))
    async with committing_sessions.begin() as session:
        session.add(booked(*room_and_guest, may(1, 4)))
    async with committing_sessions() as other_run:
        statement = select(HotelBooking).where(col(HotelBooking.status) == BookingStatus.CONFIRMED)
        await other_run.exec(statement.with_for_update())
        assert (await asyncio.to_thread(daily_task))[work] == 0
    assert (await asyncio.to_thread(daily_task))[work] == 1


async def until_blocked(sessions: Sessions, backend: int) -> None:
    """Wait until a server process is blocked by a lock, at most ten seconds."""
    blocked = text("SELECT cardinality(pg_blocking_pids(:backend)) > 0")
    async with sessions() as session, asyncio.timeout(10):
        while not await session.scalar(blocked, {"backend": backend}):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
