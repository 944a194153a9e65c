"""The occupancy of the rooms in the coming nights, arranged for a table."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from sqlalchemy.dialects.postgresql import Range
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.extensions.hotel.models import BookingStatus, HotelBooking, HotelRoom
from app.extensions.hotel.settings import hotel_settings

NIGHTS = 14


@dataclass(frozen=True)
class Cell:
    """One night that is free, or the nights of one booking side by side."""

    nights: int = 1
    status: str | None = None
    """One of BookingStatus; None when free."""


@dataclass(frozen=True)
class RoomOccupancy:
    """A row of the table: its cells' nights add up to `NIGHTS`."""

    room: str
    cells: list[Cell]


def nights_from(first_night: date) -> list[date]:
    """The nights that the table shows."""
    return [first_night + timedelta(days=offset) for offset in range(NIGHTS)]


async def read_occupancy(
    session: AsyncSession, first_night: date, *, after: str = ""
) -> tuple[list[RoomOccupancy], bool]:
    """Read a page of rooms by name, after the name `after`, and whether there are more."""
    names = select(HotelRoom).where(col(HotelRoom.name) > after).order_by(HotelRoom.name)
    found = (await session.exec(names.limit(hotel_settings.PAGE_SIZE + 1))).all()
    rooms = found[: hotel_settings.PAGE_SIZE]
    shown = Range(first_night, first_night + timedelta(days=NIGHTS))
    statement = (
        select(HotelBooking)
        .where(
            col(HotelBooking.room_id).in_([room.id for room in rooms]),
            HotelBooking.nights.overlaps(shown),
            HotelBooking.status != BookingStatus.CANCELLED,
        )
        .order_by(col(HotelBooking.nights))
    )
    bookings: dict[int | None, list[HotelBooking]] = defaultdict(list)
    for booking in await session.exec(statement):
        bookings[booking.room_id].append(booking)
    rows = [
        RoomOccupancy(room.name, list(arrange(bookings[room.id], first_night))) for room in rooms
    ]
    return rows, len(found) > len(rooms)


def arrange(bookings: Iterable[HotelBooking], first_night: date) -> Iterator[Cell]:
    """Yield the cells of one room's row; its bookings have to be in order, without overlaps."""
    end = first_night + timedelta(days=NIGHTS)
    night = first_night
    for booking in bookings:
        yield from [Cell()] * (booking.arrival - night).days
        night = max(night, booking.arrival)
        until = min(booking.departure, end)
        yield Cell((until - night).days, booking.status)
        night = until
    yield from [Cell()] * (end - night).days
