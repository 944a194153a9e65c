"""The constraint of the database: a room is never booked twice for the same night."""

from datetime import date

import pytest
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.exc import IntegrityError
from sqlmodel.ext.asyncio.session import AsyncSession

from app.extensions.hotel.models import (
    ROOM_IS_FREE,
    BookingStatus,
    HotelBooking,
    HotelGuest,
    HotelRoom,
)
from app.extensions.hotel.tests.stays import booked, may


@pytest.mark.parametrize("nights", [may(4, 7), may(3, 5), may(6, 9), may(5, 6), may(1, 20)])
@pytest.mark.parametrize(
    "status", [BookingStatus.CONFIRMED, BookingStatus.ARRIVED, BookingStatus.NO_SHOW]
)
async def test_overlapping_nights_are_refused(
    db_session: AsyncSession, booking: HotelBooking, nights: Range[date], status: BookingStatus
) -> None:
    booking.status = status
    db_session.add(HotelBooking(room_id=booking.room_id, guest_id=booking.guest_id, nights=nights))
    with pytest.raises(IntegrityError, match=ROOM_IS_FREE):
        await db_session.commit()


@pytest.mark.parametrize("nights", [may(1, 4), may(7, 8)])
async def test_a_guest_may_come_on_the_day_another_leaves(
    db_session: AsyncSession, booking: HotelBooking, nights: Range[date]
) -> None:
    db_session.add(HotelBooking(room_id=booking.room_id, guest_id=booking.guest_id, nights=nights))
    await db_session.commit()


async def test_another_room_is_another_matter(
    db_session: AsyncSession, booking: HotelBooking, guest: HotelGuest
) -> None:
    other = HotelRoom(name="102")
    db_session.add(other)
    await db_session.flush()
    db_session.add(booked(other, guest, booking.nights))
    await db_session.commit()


async def test_what_is_cancelled_is_free(db_session: AsyncSession, booking: HotelBooking) -> None:
    booking.status = BookingStatus.CANCELLED
    await db_session.flush()
    again = HotelBooking(room_id=booking.room_id, guest_id=booking.guest_id, nights=may(5, 9))
    db_session.add(again)
    await db_session.commit()

    booking.status = BookingStatus.CONFIRMED
    with pytest.raises(IntegrityError, match=ROOM_IS_FREE):
        await db_session.commit()


@pytest.mark.parametrize(
    "nights", [may(4, 4), Range(None, may(1, 2).upper), Range(may(1, 2).lower, None)]
)
async def test_nights_begin_and_end(
    db_session: AsyncSession, room: HotelRoom, guest: HotelGuest, nights: Range[date]
) -> None:
    """An empty range overlaps nothing, so a booking of no night could be made again and again."""
    db_session.add(booked(room, guest, nights))
    with pytest.raises(IntegrityError, match="ck_hotel_booking_nights"):
        await db_session.commit()
