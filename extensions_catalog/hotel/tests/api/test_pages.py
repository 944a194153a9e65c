"""Pages below `/hotel`."""

import re

import httpx
import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from app.extensions.hotel.models import BookingStatus, HotelBooking, HotelGuest, HotelRoom
from app.extensions.hotel.settings import HotelSettings
from app.extensions.hotel.tests.stays import booked, may

OCCUPANCY = "/hotel/occupancy"


def row_of(room: str, page: str) -> list[str]:
    """The cells of a room's row, without their style."""
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    [row] = [each for each in rows if f'<th scope="row">{room}</th>' in each]
    return [
        re.sub(r"<[^>]+>", "", content) + (f" {span}" if span else "")
        for span, content in re.findall(
            r'<td(?: class="\w+" colspan="(\d+)")?>(.*?)</td>', row, re.DOTALL
        )
    ]


async def test_without_rooms_it_says_so(client: httpx.AsyncClient) -> None:
    answer = await client.get(OCCUPANCY)
    assert answer.status_code == 200
    assert "There are no rooms yet." in answer.text


async def test_shows_fourteen_nights_from_today(client: httpx.AsyncClient, room: HotelRoom) -> None:
    page = (await client.get(OCCUPANCY)).text
    days = re.findall(r'<th scope="col">(\w+)<br><strong>(\d+)</strong> May</th>', page)
    assert days[0] == ("Wed", "1")
    assert [int(day) for _, day in days] == list(range(1, 15))
    assert row_of("101", page) == [""] * 14


async def test_shows_which_are_taken(
    client: httpx.AsyncClient, db_session: AsyncSession, room: HotelRoom, guest: HotelGuest
) -> None:
    db_session.add_all(
        [
            booked(room, guest, may(1, 3), BookingStatus.ARRIVED),
            booked(room, guest, may(3, 4), BookingStatus.NO_SHOW),
            booked(room, guest, may(6, 9)),
            booked(room, guest, may(9, 31), BookingStatus.CANCELLED),
            booked(room, guest, may(15, 31)),
        ]
    )
    await db_session.commit()
    page = (await client.get(OCCUPANCY)).text
    assert row_of("101", page) == ["arrived 2", "no-show 1", "", "", "booked 3", *[""] * 6]


async def test_needs_no_script_and_names_no_guest(
    client: httpx.AsyncClient, booking: HotelBooking
) -> None:
    """The pages are public."""
    page = (await client.get(OCCUPANCY)).text
    assert "booked" in page
    assert "<script" not in page
    assert "Ada" not in page


async def test_its_policy_lets_in_its_own_styles_alone(client: httpx.AsyncClient) -> None:
    first, second = [(await client.get(OCCUPANCY)).text for _ in range(2)]
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', first)
    [nonce] = re.findall(r'<style nonce="([^"]+)">', first)
    assert policy.startswith("default-src 'self';")
    assert f"'nonce-{nonce}'" in policy
    assert "unsafe" not in policy
    assert " style=" not in first
    assert nonce not in second


async def test_shows_names_escaped(client: httpx.AsyncClient, db_session: AsyncSession) -> None:
    db_session.add(HotelRoom(name="<script>alert(1)</script>"))
    await db_session.commit()
    page = (await client.get(OCCUPANCY)).text
    assert "&lt;script&gt;" in page
    assert "<script>alert" not in page


async def test_many_rooms_come_in_pages(
    client: httpx.AsyncClient, db_session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.extensions.hotel.occupancy.hotel_settings", HotelSettings(PAGE_SIZE=2))
    db_session.add_all([HotelRoom(name=name) for name in ("C & D", "A", "B & C")])
    await db_session.commit()
    first = (await client.get(OCCUPANCY)).text
    assert re.findall(r'scope="row">([^<]+)<', first) == ["A", "B &amp; C"]
    [further] = re.findall(r'<a href="(\?after=[^"]+)">', first)
    second = (await client.get(OCCUPANCY + further)).text
    assert re.findall(r'scope="row">([^<]+)<', second) == ["C &amp; D"]
    assert "?after=" not in second


async def test_is_no_part_of_the_api(client: httpx.AsyncClient) -> None:
    assert OCCUPANCY not in (await client.get("/openapi.json")).json()["paths"]
