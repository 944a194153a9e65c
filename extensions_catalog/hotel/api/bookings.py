"""Routes below `/api/hotel/bookings`."""

from http import HTTPStatus

from fastapi import APIRouter
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.dependencies import ReadSessionDep, SessionDep
from app.extensions.hotel.api.parameters import AfterId, RowId
from app.extensions.hotel.bookings import (
    FOLLOWS_ON,
    book_if_free,
    booking_payload,
    bookings_to_change,
)
from app.extensions.hotel.models import (
    BookingStatus,
    HotelBooking,
    HotelBookingInput,
    HotelBookingOutput,
    HotelGuest,
    HotelRoom,
)
from app.extensions.hotel.settings import hotel_settings
from kit.errors import Problem
from kit.messages import publish

router = APIRouter(prefix="/bookings", tags=["Bookings"])


@router.get("", response_model=list[HotelBookingOutput])
async def list_bookings(session: ReadSessionDep, after: AfterId = 0) -> list[HotelBooking]:
    """List the bookings in the order in which they were made, a page after booking `after`."""
    statement = (
        select(HotelBooking).where(col(HotelBooking.id) > after).order_by(col(HotelBooking.id))
    )
    return list(await session.exec(statement.limit(hotel_settings.PAGE_SIZE)))


@router.get("/{booking_id}", response_model=HotelBookingOutput)
async def read_booking(session: ReadSessionDep, booking_id: RowId) -> HotelBooking:
    """Read one booking."""
    booking = await session.get(HotelBooking, booking_id)
    if booking is None:
        raise _no_such_booking(booking_id)
    return booking


@router.post("", response_model=HotelBookingOutput, status_code=HTTPStatus.CREATED)
async def create_booking(session: SessionDep, values: HotelBookingInput) -> HotelBooking:
    """Book a room; 409 when it is taken for any of the nights."""
    room = await session.get(HotelRoom, values.room_id)
    guest = await session.get(HotelGuest, values.guest_id)
    if room is None or guest is None:
        missing = f"room {values.room_id}" if room is None else f"guest {values.guest_id}"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"There is no {missing}.")
    booking: HotelBooking | None = await session.scalar(book_if_free(room, guest, values.nights))
    if booking is None:
        raise Problem(HTTPStatus.CONFLICT, f"Room {room} is taken for some of these nights.")
    await publish(session, "hotel.booking-confirmed", booking_payload(booking, room, guest))
    await session.commit()
    return booking


@router.post("/{booking_id}/arrival", response_model=HotelBookingOutput)
async def note_arrival(session: SessionDep, booking_id: RowId) -> HotelBooking:
    """Mark a booking as arrived."""
    booking, _, _ = await _change_status(session, booking_id, BookingStatus.ARRIVED)
    await session.commit()
    return booking


@router.post("/{booking_id}/cancellation", response_model=HotelBookingOutput)
async def cancel_booking(session: SessionDep, booking_id: RowId) -> HotelBooking:
    """Cancel a booking, which frees the room."""
    booking, room, guest = await _change_status(session, booking_id, BookingStatus.CANCELLED)
    await publish(session, "hotel.booking-cancelled", booking_payload(booking, room, guest))
    await session.commit()
    return booking


async def _change_status(
    session: AsyncSession, booking_id: int, status: BookingStatus
) -> tuple[HotelBooking, HotelRoom, HotelGuest]:
    found = (await session.exec(bookings_to_change([booking_id]))).one_or_none()
    if found is None:
        raise _no_such_booking(booking_id)
    booking, room, guest = found
    if booking.status not in FOLLOWS_ON[status]:
        raise Problem(
            HTTPStatus.CONFLICT,
            f"Booking {booking_id} is {booking.status}, which cannot become {status}.",
        )
    booking.status = status
    return booking, room, guest


def _no_such_booking(booking_id: int) -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, f"There is no booking {booking_id}.")
