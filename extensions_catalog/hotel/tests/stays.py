"""Nights and bookings for these tests."""

from datetime import date

from sqlalchemy.dialects.postgresql import Range

from app.extensions.hotel.models import BookingStatus, HotelBooking, HotelGuest, HotelRoom


def may(first: int, last: int) -> Range[date]:
    """Nights from one day of May 2030 to another, the day of departure."""
    return Range(date(2030, 5, first), date(2030, 5, last))


def booked(
    room: HotelRoom,
    guest: HotelGuest,
    nights: Range[date],
    status: BookingStatus = BookingStatus.CONFIRMED,
) -> HotelBooking:
    """Make a booking of stored rows."""
    return HotelBooking(room_id=room.id or 0, guest_id=guest.id or 0, nights=nights, status=status)
