"""How a booking is made, what may become of it, and what others are told."""

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
    """Inserts a booking and gives it, or gives nothing where the room is taken for any night.

    PostgreSQL decides, whoever else is booking. Two plain inserts at the same moment may wait for
    each other and end as a deadlock, after seconds; with ON CONFLICT one of them gives way at once.
    """
    return (
        insert(HotelBooking)
        .values(room_id=room.id, guest_id=guest.id, nights=nights)
        .on_conflict_do_nothing(constraint=ROOM_IS_FREE)
        .returning(HotelBooking)
    )


def bookings_to_change(ids: Collection[int]) -> Select[HotelBooking, HotelRoom, HotelGuest]:
    """Selects bookings with room and guest, in the order of their ids, locked until the commit."""
    return (
        select(HotelBooking, HotelRoom, HotelGuest)
        .join(HotelRoom)
        .join(HotelGuest)
        .where(col(HotelBooking.id).in_(ids))
        .order_by(col(HotelBooking.id))
        .with_for_update(of=HotelBooking)
    )


def booking_payload(booking: HotelBooking, room: HotelRoom, guest: HotelGuest) -> dict[str, Any]:
    """What a message about a booking carries; `mail_to` is None for a guest without address."""
    return {
        "booking_id": booking.id,
        "room": room.name,
        "guest_name": guest.name,
        "mail_to": guest.email,
        "arrival": booking.arrival.isoformat(),
        "departure": booking.departure.isoformat(),
    }
