"""Views of the extension's tables."""

from collections.abc import Collection
from typing import ClassVar

import anyio.to_thread
from sqladmin import ModelView, action
from starlette.requests import Request
from starlette.responses import RedirectResponse

from app.extensions.hotel.bookings import FOLLOWS_ON, booking_payload, bookings_to_change
from app.extensions.hotel.models import (
    BookingStatus,
    HotelBooking,
    HotelGuest,
    HotelRoom,
)
from kit.admin import EnumFilterBase, admin_session_maker, chosen_keys, return_to_list
from kit.messages import publish_sync


class HotelRoomAdmin(ModelView, model=HotelRoom):
    """Rooms."""

    name = "Room"
    icon = "fa-solid fa-bed"
    category = "Hotel"
    column_list: ClassVar = ["name", "beds"]
    column_searchable_list: ClassVar = ["name"]
    column_sortable_list: ClassVar = ["name", "beds"]
    column_default_sort = "name"


class HotelGuestAdmin(ModelView, model=HotelGuest):
    """Guests."""

    name = "Guest"
    icon = "fa-solid fa-user"
    category = "Hotel"
    column_list: ClassVar = ["name", "email", "created_at"]
    column_searchable_list: ClassVar = ["name", "email"]
    column_sortable_list: ClassVar = ["name", "created_at"]
    column_default_sort: ClassVar = ("id", True)
    form_excluded_columns: ClassVar = ["created_at"]


class BookingStatusFilter(EnumFilterBase):
    """Filters by the booking's status."""

    enum = BookingStatus


class HotelBookingAdmin(ModelView, model=HotelBooking):
    """Bookings, which are made over the API; here they are marked as arrived or cancelled."""

    name = "Booking"
    icon = "fa-solid fa-calendar-days"
    category = "Hotel"
    can_create = can_edit = can_delete = False
    column_list: ClassVar = ["id", "room", "guest", "nights", "status"]
    column_details_list: ClassVar = [*column_list, "announced_at", "created_at"]
    column_searchable_list: ClassVar = ["room.name", "guest.name"]
    column_sortable_list: ClassVar = ["id", "nights", "status"]
    column_default_sort: ClassVar = ("id", True)
    column_filters: ClassVar = [BookingStatusFilter(HotelBooking.status)]
    column_formatters: ClassVar = {"nights": lambda booking, _: str(booking)}
    column_formatters_detail = column_formatters

    @action(name="note-arrival", label="Note arrival")
    async def note_arrival(self, request: Request) -> RedirectResponse:
        """Mark the chosen bookings as arrived."""
        return await self._change(request, BookingStatus.ARRIVED)

    @action(
        name="cancel",
        label="Cancel",
        confirmation_message="Cancel permanently? Others may book the rooms from then on.",
    )
    async def cancel(self, request: Request) -> RedirectResponse:
        """Cancel the chosen bookings."""
        return await self._change(request, BookingStatus.CANCELLED)

    async def _change(self, request: Request, status: BookingStatus) -> RedirectResponse:
        ids = chosen_keys(request)
        count = await anyio.to_thread.run_sync(_change_status, ids, status)
        return return_to_list(self, request, f"{count} of {len(ids)} {status}")


def _change_status(ids: Collection[int], status: BookingStatus) -> int:
    """Change those bookings that may change, and publish cancellations; returns their number."""
    with admin_session_maker.begin() as session:
        found = [
            row
            for row in session.exec(bookings_to_change(ids))
            if row[0].status in FOLLOWS_ON[status]
        ]
        for booking, room, guest in found:
            booking.status = status
            if status is BookingStatus.CANCELLED:
                publish_sync(
                    session, "hotel.booking-cancelled", booking_payload(booking, room, guest)
                )
    return len(found)
