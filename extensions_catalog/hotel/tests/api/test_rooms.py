"""Routes below `/api/hotel/rooms`."""

from typing import Any

import httpx
import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from app.extensions.hotel.models import BookingStatus, HotelBooking, HotelRoom
from app.extensions.hotel.settings import HotelSettings

ROOMS = "/api/hotel/rooms"


@pytest.fixture
async def three_rooms(db_session: AsyncSession, monkeypatch: pytest.MonkeyPatch) -> list[HotelRoom]:
    """More than the two that fit on a page."""
    monkeypatch.setattr("app.extensions.hotel.api.rooms.hotel_settings", HotelSettings(PAGE_SIZE=2))
    rooms = [HotelRoom(name=name) for name in ("1", "2", "3")]
    db_session.add_all(rooms)
    await db_session.commit()
    return rooms


class TestCreateRoom:
    @pytest.mark.parametrize(
        ("values", "pointer"),
        [
            ({}, "/name"),
            ({"name": ""}, "/name"),
            ({"name": "x" * 51}, "/name"),
            ({"name": "1\r\nBcc: everybody@example.com"}, "/name"),
            ({"name": "1\u20282"}, "/name"),
            ({"name": "1", "beds": 0}, "/beds"),
            ({"name": "1", "beds": 21}, "/beds"),
        ],
    )
    async def test_refuses_what_does_not_fit(
        self, client: httpx.AsyncClient, values: dict[str, Any], pointer: str
    ) -> None:
        answer = await client.post(ROOMS, json=values)
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]

    async def test_refuses_a_name_that_another_room_has(
        self, client: httpx.AsyncClient, room: HotelRoom
    ) -> None:
        answer = await client.post(ROOMS, json={"name": room.name})
        assert answer.status_code == 409

    async def test_keeps_the_room(self, client: httpx.AsyncClient) -> None:
        answer = await client.post(ROOMS, json={"name": "Garden room", "beds": 3})
        assert answer.status_code == 201, answer.text
        created = answer.json()
        assert (created["name"], created["beds"]) == ("Garden room", 3)
        assert (await client.get(f"{ROOMS}/{created['id']}")).json() == created


class TestReadRoom:
    @pytest.mark.parametrize("room_id", ["0", "x", "2147483648"])
    async def test_refuses_an_id_that_cannot_be(
        self, client: httpx.AsyncClient, room_id: str
    ) -> None:
        assert (await client.get(f"{ROOMS}/{room_id}")).status_code == 422

    async def test_unknown(self, client: httpx.AsyncClient) -> None:
        answer = await client.get(f"{ROOMS}/2147483647")
        assert answer.status_code == 404
        assert answer.json()["detail"] == "There is no room 2147483647."


class TestListRooms:
    async def test_refuses_a_start_that_cannot_be(self, client: httpx.AsyncClient) -> None:
        assert (await client.get(ROOMS, params={"after": -1})).status_code == 422

    async def test_comes_in_pages(
        self, client: httpx.AsyncClient, three_rooms: list[HotelRoom]
    ) -> None:
        first = (await client.get(ROOMS)).json()
        assert [room["name"] for room in first] == ["1", "2"]
        second = (await client.get(ROOMS, params={"after": first[-1]["id"]})).json()
        assert [room["name"] for room in second] == ["3"]


class TestListFreeRooms:
    @pytest.mark.parametrize(
        ("query", "pointer"),
        [
            ({"arrival": "2030-05-04"}, "/departure"),
            ({"arrival": "tomorrow", "departure": "2030-05-04"}, "/arrival"),
            ({"arrival": "2030-05-04", "departure": "2030-05-04"}, "/departure"),
        ],
    )
    async def test_refuses_what_are_no_nights(
        self, client: httpx.AsyncClient, query: dict[str, str], pointer: str
    ) -> None:
        answer = await client.get(f"{ROOMS}/free", params=query)
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]

    @pytest.mark.parametrize(
        ("arrival", "departure", "is_free"),
        [
            ("2030-05-01", "2030-05-05", False),
            ("2030-05-06", "2030-05-08", False),
            ("2030-05-01", "2030-05-04", True),
            ("2030-05-07", "2030-05-08", True),
        ],
    )
    async def test_leaves_out_what_is_booked(
        self,
        client: httpx.AsyncClient,
        booking: HotelBooking,
        arrival: str,
        departure: str,
        is_free: bool,
    ) -> None:
        query = {"arrival": arrival, "departure": departure}
        free = (await client.get(f"{ROOMS}/free", params=query)).json()
        assert [room["name"] for room in free] == (["101"] if is_free else [])

    async def test_what_is_cancelled_is_free(
        self, client: httpx.AsyncClient, db_session: AsyncSession, booking: HotelBooking
    ) -> None:
        booking.status = BookingStatus.CANCELLED
        await db_session.commit()
        query = {"arrival": "2030-05-04", "departure": "2030-05-07"}
        assert len((await client.get(f"{ROOMS}/free", params=query)).json()) == 1

    async def test_comes_in_pages(
        self, client: httpx.AsyncClient, three_rooms: list[HotelRoom]
    ) -> None:
        query = {"arrival": "2030-05-04", "departure": "2030-05-07"}
        first = (await client.get(f"{ROOMS}/free", params=query)).json()
        assert [room["name"] for room in first] == ["1", "2"]
        query["after"] = first[-1]["id"]
        second = (await client.get(f"{ROOMS}/free", params=query)).json()
        assert [room["name"] for room in second] == ["3"]
