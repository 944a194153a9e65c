"""Routes below `/api/hotel/bookings`."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.extensions.hotel.models import BookingStatus, HotelBooking, HotelGuest, HotelRoom
from app.extensions.hotel.settings import HotelSettings
from app.extensions.hotel.tests.stays import may

BOOKINGS = "/api/hotel/bookings"
UNKNOWN_ID = 2_147_483_647

Published = list[tuple[str, Mapping[str, Any]]]


@pytest.fixture
def values(room: HotelRoom, guest: HotelGuest) -> dict[str, Any]:
    """The input that books the room for the guest, from the 4th to the 7th."""
    return {
        "room_id": room.id,
        "guest_id": guest.id,
        "arrival": "2030-05-04",
        "departure": "2030-05-07",
    }


class TestCreateBooking:
    @pytest.mark.parametrize(
        ("change", "pointer", "detail"),
        [
            ({"arrival": "soon"}, "/arrival", "valid date"),
            ({"arrival": "2030-04-30"}, "/arrival", "is in the past"),
            ({"departure": "2030-05-04"}, "/departure", "has to be after the arrival"),
            ({"departure": "2030-05-03"}, "/departure", "has to be after the arrival"),
            ({"departure": "2030-07-04"}, "/departure", "at most 60 nights"),
            ({"room_id": 0}, "/room_id", "greater than or equal to 1"),
            ({"guest_id": 2**31}, "/guest_id", "less than or equal to"),
        ],
    )
    async def test_refuses_what_does_not_fit(
        self,
        client: httpx.AsyncClient,
        values: dict[str, Any],
        change: dict[str, Any],
        pointer: str,
        detail: str,
    ) -> None:
        answer = await client.post(BOOKINGS, json=values | change)
        assert answer.status_code == 422
        [error] = answer.json()["errors"]
        assert error["pointer"] == pointer
        assert detail in error["detail"]

    @pytest.mark.parametrize(
        ("field", "detail"),
        [
            ("room_id", f"There is no room {UNKNOWN_ID}."),
            ("guest_id", f"There is no guest {UNKNOWN_ID}."),
        ],
    )
    async def test_unknown_room_or_guest(
        self, client: httpx.AsyncClient, values: dict[str, Any], field: str, detail: str
    ) -> None:
        answer = await client.post(BOOKINGS, json=values | {field: UNKNOWN_ID})
        assert answer.status_code == 422
        assert answer.json()["detail"] == detail

    async def test_a_taken_room_is_a_conflict_and_publishes_nothing(
        self,
        client: httpx.AsyncClient,
        db_session: AsyncSession,
        booking: HotelBooking,
        values: dict[str, Any],
        published: Published,
    ) -> None:
        answer = await client.post(BOOKINGS, json=values | {"arrival": "2030-05-06"})
        assert answer.status_code == 409
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"] == "Room 101 is taken for some of these nights."
        assert (await db_session.exec(select(HotelBooking))).all() == [booking]
        assert published == []

    @pytest.mark.parametrize(
        "nights",
        [
            {"arrival": "2030-05-01", "departure": "2030-05-04"},
            {"arrival": "2030-05-07", "departure": "2030-05-08"},
        ],
    )
    async def test_a_guest_may_come_on_the_day_another_leaves(
        self,
        client: httpx.AsyncClient,
        booking: HotelBooking,
        values: dict[str, Any],
        nights: dict[str, str],
    ) -> None:
        answer = await client.post(BOOKINGS, json=values | nights)
        assert answer.status_code == 201, answer.text

    async def test_keeps_the_booking_and_publishes_it(
        self,
        client: httpx.AsyncClient,
        db_session: AsyncSession,
        values: dict[str, Any],
        published: Published,
    ) -> None:
        answer = await client.post(BOOKINGS, json=values)
        assert answer.status_code == 201, answer.text
        created = answer.json()
        assert created.items() >= (values | {"status": "confirmed"}).items()
        kept = (await db_session.exec(select(HotelBooking))).one()
        assert (kept.id, kept.nights) == (created["id"], may(4, 7))
        assert published == [
            (
                "hotel.booking-confirmed",
                {
                    "booking_id": created["id"],
                    "room": "101",
                    "guest_name": "Ada Lovelace",
                    "mail_to": "ada@example.com",
                    "arrival": "2030-05-04",
                    "departure": "2030-05-07",
                },
            )
        ]

    async def test_a_guest_without_address_gets_no_mail(
        self,
        client: httpx.AsyncClient,
        db_session: AsyncSession,
        guest: HotelGuest,
        values: dict[str, Any],
        published: Published,
    ) -> None:
        guest.email = None
        await db_session.commit()
        assert (await client.post(BOOKINGS, json=values)).status_code == 201
        [(_, payload)] = published
        assert payload["mail_to"] is None


class TestReadBooking:
    @pytest.mark.parametrize("booking_id", ["0", "x", "2147483648"])
    async def test_refuses_an_id_that_cannot_be(
        self, client: httpx.AsyncClient, booking_id: str
    ) -> None:
        assert (await client.get(f"{BOOKINGS}/{booking_id}")).status_code == 422

    async def test_unknown(self, client: httpx.AsyncClient) -> None:
        answer = await client.get(f"{BOOKINGS}/{UNKNOWN_ID}")
        assert answer.status_code == 404
        assert answer.json()["detail"] == f"There is no booking {UNKNOWN_ID}."

    async def test_returns_the_booking(
        self, client: httpx.AsyncClient, booking: HotelBooking
    ) -> None:
        answer = await client.get(f"{BOOKINGS}/{booking.id}")
        assert answer.status_code == 200
        assert answer.json()["arrival"] == "2030-05-04"
        assert answer.json()["departure"] == "2030-05-07"


class TestListBookings:
    async def test_comes_in_pages(
        self,
        client: httpx.AsyncClient,
        db_session: AsyncSession,
        booking: HotelBooking,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(
            "app.extensions.hotel.api.bookings.hotel_settings", HotelSettings(PAGE_SIZE=2)
        )
        later = [
            HotelBooking(room_id=booking.room_id, guest_id=booking.guest_id, nights=nights)
            for nights in (may(7, 8), may(8, 9))
        ]
        db_session.add_all(later)
        await db_session.commit()
        first = (await client.get(BOOKINGS)).json()
        assert [each["arrival"] for each in first] == ["2030-05-04", "2030-05-07"]
        second = (await client.get(BOOKINGS, params={"after": first[-1]["id"]})).json()
        assert [each["arrival"] for each in second] == ["2030-05-08"]


class TestNoteArrival:
    async def test_unknown(self, client: httpx.AsyncClient) -> None:
        assert (await client.post(f"{BOOKINGS}/{UNKNOWN_ID}/arrival")).status_code == 404

    @pytest.mark.parametrize("status", [BookingStatus.ARRIVED, BookingStatus.CANCELLED])
    async def test_not_of_a_guest_who_is_there_or_does_not_come(
        self,
        client: httpx.AsyncClient,
        db_session: AsyncSession,
        booking: HotelBooking,
        status: BookingStatus,
    ) -> None:
        booking.status = status
        await db_session.commit()
        answer = await client.post(f"{BOOKINGS}/{booking.id}/arrival")
        assert answer.status_code == 409
        assert f"is {status}, which cannot become arrived" in answer.json()["detail"]

    @pytest.mark.parametrize("status", [BookingStatus.CONFIRMED, BookingStatus.NO_SHOW])
    async def test_of_who_was_expected_or_comes_late(
        self,
        client: httpx.AsyncClient,
        db_session: AsyncSession,
        booking: HotelBooking,
        status: BookingStatus,
        published: Published,
    ) -> None:
        booking.status = status
        await db_session.commit()
        answer = await client.post(f"{BOOKINGS}/{booking.id}/arrival")
        assert answer.status_code == 200, answer.text
        assert answer.json()["status"] == "arrived"
        await db_session.refresh(booking)
        assert booking.status == BookingStatus.ARRIVED
        assert published == []


class TestCancelBooking:
    async def test_unknown(self, client: httpx.AsyncClient) -> None:
        assert (await client.post(f"{BOOKINGS}/{UNKNOWN_ID}/cancellation")).status_code == 404

    @pytest.mark.parametrize("status", [BookingStatus.ARRIVED, BookingStatus.CANCELLED])
    async def test_not_of_a_guest_who_is_there_nor_twice(
        self,
        client: httpx.AsyncClient,
        db_session: AsyncSession,
        booking: HotelBooking,
        status: BookingStatus,
        published: Published,
    ) -> None:
        booking.status = status
        await db_session.commit()
        answer = await client.post(f"{BOOKINGS}/{booking.id}/cancellation")
        assert answer.status_code == 409
        assert published == []

    @pytest.mark.parametrize("status", [BookingStatus.CONFIRMED, BookingStatus.NO_SHOW])
    async def test_of_who_does_not_come_and_publishes_it(
        self,
        client: httpx.AsyncClient,
        db_session: AsyncSession,
        booking: HotelBooking,
        status: BookingStatus,
        published: Published,
    ) -> None:
        booking.status = status
        await db_session.commit()
        answer = await client.post(f"{BOOKINGS}/{booking.id}/cancellation")
        assert answer.status_code == 200, answer.text
        assert answer.json()["status"] == "cancelled"
        [(name, payload)] = published
        assert name == "hotel.booking-cancelled"
        assert payload == {
            "booking_id": booking.id,
            "room": "101",
            "guest_name": "Ada Lovelace",
            "mail_to": "ada@example.com",
            "arrival": "2030-05-04",
            "departure": "2030-05-07",
        }

    async def test_the_room_can_be_booked_again(
        self, client: httpx.AsyncClient, booking: HotelBooking, values: dict[str, Any]
    ) -> None:
        assert (await client.post(BOOKINGS, json=values)).status_code == 409
        await client.post(f"{BOOKINGS}/{booking.id}/cancellation")
        assert (await client.post(BOOKINGS, json=values)).status_code == 201
