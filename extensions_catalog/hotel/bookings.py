"""Bookings: how one is made, its changes of status, and the payload of its messages."""

from collections.abc import Collection, Mapping
from datetime import date
from typing import Any

from sqlalchemy.dialects.postgresql import Range, insert
from sqlalchemy.sql.dml import ReturningInsert
from sqlmodel import col, select
from sqlmodel.sql.expression import Select

from app.extensions.hotel.models import (
    ROOM_IS_FREE,
    BookingStatus,
    HotelBooking,
    HotelGuest,
    HotelRoom,
)

FOLLOWS_ON: Mapping[BookingStatus, Collection[BookingStatus]] = {
    BookingStatus.ARRIVED: (BookingStatus.CONFIRMED, BookingStatus.NO_SHOW),
    BookingStatus.NO_SHOW: (BookingStatus.CONFIRMED,),
    BookingStatus.CANCELLED: (BookingStatus.CONFIRMED, BookingStatus.NO_SHOW),
}
"""For each status, those that it may replace. A no-show keeps the room: the guest may be late."""


def book_if_free(
    room: HotelRoom, guest: HotelGuest, nights: Range[date]
) -> ReturningInsert[tuple[HotelBooking]]:
    """Statement that inserts and returns a booking, or nothing if the room is taken for any night.

    PostgreSQL decides between concurrent bookings. Two plain inserts at the same moment may wait
    for each other and end as a deadlock, after seconds; with ON CONFLICT one yields at once.
    """
    return (
        insert(HotelBooking)
        .values(room_id=room.id, guest_id=guest.id, nights=nights)
        .on_conflict_do_nothing(constraint=ROOM_IS_FREE)
        .returning(HotelBooking)
    )


def bookings_to_change(ids: Collection[int]) -> Select[HotelBooking, HotelRoom, HotelGuest]:
    """Statement that selects bookings with room and guest by id, locked until the commit."""
    return (
        select(HotelBooking, HotelRoom, HotelGuest)
        .join(HotelRoom)
        .join(HotelGuest)
        .where(col(HotelBooking.id).in_(ids))
        .order_by(col(HotelBooking.id))
        .with_for_update(of=HotelBooking)
    )


def booking_payload(booking: HotelBooking, room: HotelRoom, guest: HotelGuest) -> dict[str, Any]:
    """Payload of a message about a booking; `mail_to` is None for a guest without address."""
    return {
        "booking_id": booking.id,
        "room": room.name,
        "guest_name": guest.name,
        "mail_to": guest.email,
        "arrival": booking.arrival.isoformat(),
        "departure": booking.departure.isoformat(),
    }
