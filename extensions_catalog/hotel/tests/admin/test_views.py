"""Rooms, guests and bookings in the admin."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from sqlmodel import Session, select

from app.extensions.hotel.models import BookingStatus, HotelBooking, HotelGuest, HotelRoom
from app.extensions.hotel.tests.stays import booked, may

BOOKINGS = "/admin/hotel-booking"


@pytest.fixture
def booking(sync_db_session: Session) -> HotelBooking:
    """A booking of room 101 for Ada Lovelace, from the 4th to the 7th."""
    room, guest = HotelRoom(name="101"), HotelGuest(name="Ada Lovelace", email="ada@example.com")
    sync_db_session.add_all([room, guest])
    sync_db_session.flush()
    booking = booked(room, guest, may(4, 7))
    sync_db_session.add(booking)
    sync_db_session.commit()
    return booking


@pytest.mark.parametrize("view", ["hotel-room", "hotel-guest", "hotel-booking"])
async def test_strangers_see_nothing(client: httpx.AsyncClient, view: str) -> None:
    answer = await client.get(f"/admin/{view}/list")
    assert answer.status_code == 302
    assert "/admin/login" in answer.headers["location"]


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        ("hotel-room", ["101"]),
        ("hotel-guest", ["Ada Lovelace", "ada@example.com"]),
        ("hotel-booking", ["101", "Ada Lovelace", "2030-05-04 to 2030-05-07", "confirmed"]),
    ],
)
async def test_lists(
    admin_client: httpx.AsyncClient, booking: HotelBooking, view: str, expected: list[str]
) -> None:
    answer = await admin_client.get(f"/admin/{view}/list")
    assert answer.status_code == 200
    for text in expected:
        assert text in answer.text


class TestForms:
    @pytest.mark.parametrize(
        ("view", "form", "mistake"),
        [
            ("hotel-room", {"name": "102", "beds": "0"}, "greater than or equal to 1"),
            ("hotel-guest", {"name": "Grace", "email": "grace"}, "should match pattern"),
        ],
    )
    async def test_refuse_what_the_api_refuses(
        self,
        admin_client: httpx.AsyncClient,
        sync_db_session: Session,
        view: str,
        form: dict[str, str],
        mistake: str,
    ) -> None:
        answer = await admin_client.post(f"/admin/{view}/create", data=form)
        assert answer.status_code == 400
        assert mistake in answer.text
        assert sync_db_session.exec(select(HotelGuest)).all() == []

    async def test_write_a_room(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session
    ) -> None:
        answer = await admin_client.post(
            "/admin/hotel-room/create", data={"name": "102", "beds": "2"}
        )
        assert answer.status_code == 302, answer.text
        assert sync_db_session.exec(select(HotelRoom)).one().beds == 2

    async def test_write_a_guest_without_address(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session
    ) -> None:
        answer = await admin_client.post(
            "/admin/hotel-guest/create", data={"name": "Grace Hopper", "email": ""}
        )
        assert answer.status_code == 302, answer.text
        assert sync_db_session.exec(select(HotelGuest)).one().email is None

    async def test_a_room_that_is_booked_stays(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session, booking: HotelBooking
    ) -> None:
        await admin_client.delete(f"/admin/hotel-room/delete?pks={booking.room_id}")
        assert sync_db_session.exec(select(HotelRoom)).one().name == "101"


class TestBookings:
    @pytest.mark.parametrize("page", ["create", "edit/1"])
    async def test_are_not_written_here(self, admin_client: httpx.AsyncClient, page: str) -> None:
        assert (await admin_client.get(f"{BOOKINGS}/{page}")).status_code == 403

    async def test_are_shown_and_exported(
        self, admin_client: httpx.AsyncClient, booking: HotelBooking
    ) -> None:
        for page in (f"details/{booking.id}", "export/csv"):
            answer = await admin_client.get(f"{BOOKINGS}/{page}")
            assert answer.status_code == 200
            for text in ("101", "Ada Lovelace", "2030-05-04"):
                assert text in answer.text, page

    @pytest.mark.parametrize("search", ["lovelace", "101"])
    async def test_are_found_by_guest_and_room(
        self, admin_client: httpx.AsyncClient, booking: HotelBooking, search: str
    ) -> None:
        found = await admin_client.get(f"{BOOKINGS}/list", params={"search": search})
        assert "Ada Lovelace" in found.text
        other = await admin_client.get(f"{BOOKINGS}/list", params={"search": "nobody"})
        assert "Ada Lovelace" not in other.text

    async def test_are_filtered_by_status(
        self, admin_client: httpx.AsyncClient, booking: HotelBooking
    ) -> None:
        for status, is_shown in (("CONFIRMED", True), ("CANCELLED", False)):
            answer = await admin_client.get(f"{BOOKINGS}/list", params={"status": status})
            assert ("Ada Lovelace" in answer.text) is is_shown

    async def test_wrong_keys_are_refused(self, admin_client: httpx.AsyncClient) -> None:
        answer = await admin_client.get(f"{BOOKINGS}/action/cancel?pks=1,x")
        assert answer.status_code == 400

    async def test_a_cancellation_is_published(
        self,
        admin_client: httpx.AsyncClient,
        sync_db_session: Session,
        booking: HotelBooking,
        published: list[tuple[str, Mapping[str, Any]]],
    ) -> None:
        await admin_client.get(f"{BOOKINGS}/action/cancel?pks={booking.id}")
        sync_db_session.refresh(booking)
        assert booking.status == BookingStatus.CANCELLED
        [(name, payload)] = published
        assert name == "hotel.booking-cancelled"
        assert payload["booking_id"] == booking.id
        assert payload["mail_to"] == "ada@example.com"

    async def test_how_many_were_changed_is_shown(
        self, admin_client: httpx.AsyncClient, booking: HotelBooking
    ) -> None:
        unknown = (booking.id or 0) + 1
        await admin_client.get(f"{BOOKINGS}/action/cancel?pks={booking.id},{unknown}")
        answer = await admin_client.get(f"{BOOKINGS}/list")
        assert "1 of 2 cancelled" in answer.text

    async def test_an_arrival_is_noted(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session, booking: HotelBooking
    ) -> None:
        await admin_client.get(f"{BOOKINGS}/action/note-arrival?pks={booking.id}")
        sync_db_session.refresh(booking)
        assert booking.status == BookingStatus.ARRIVED

    async def test_who_is_there_is_not_cancelled(
        self,
        admin_client: httpx.AsyncClient,
        sync_db_session: Session,
        booking: HotelBooking,
        published: list[tuple[str, Mapping[str, Any]]],
    ) -> None:
        booking.status = BookingStatus.ARRIVED
        sync_db_session.commit()
        await admin_client.get(f"{BOOKINGS}/action/cancel?pks={booking.id}")
        sync_db_session.refresh(booking)
        assert booking.status == BookingStatus.ARRIVED
        assert published == []
