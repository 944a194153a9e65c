"""Routes below `/api/hotel/guests`."""

from typing import Any

import httpx
import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from app.extensions.hotel.models import HotelGuest
from app.extensions.hotel.settings import HotelSettings

GUESTS = "/api/hotel/guests"


class TestCreateGuest:
    @pytest.mark.parametrize(
        ("values", "pointer"),
        [
            ({}, "/name"),
            ({"name": ""}, "/name"),
            ({"name": "x" * 201}, "/name"),
            ({"name": "Ada\nLovelace"}, "/name"),
            ({"name": "Ada\x00"}, "/name"),
            ({"name": "Ada", "email": "ada"}, "/email"),
            ({"name": "Ada", "email": "ada@example.com\n"}, "/email"),
            ({"name": "Ada", "email": "x" * 250 + "@example.com"}, "/email"),
        ],
    )
    async def test_refuses_what_does_not_fit(
        self, client: httpx.AsyncClient, values: dict[str, Any], pointer: str
    ) -> None:
        answer = await client.post(GUESTS, json=values)
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]

    @pytest.mark.parametrize("email", [None, "ada@example.com"])
    async def test_keeps_the_guest(self, client: httpx.AsyncClient, email: str | None) -> None:
        answer = await client.post(GUESTS, json={"name": "Ada Lovelace", "email": email})
        assert answer.status_code == 201, answer.text
        created = answer.json()
        assert (created["name"], created["email"]) == ("Ada Lovelace", email)
        assert (await client.get(f"{GUESTS}/{created['id']}")).json() == created


class TestReadGuest:
    @pytest.mark.parametrize("guest_id", ["0", "x", "2147483648"])
    async def test_refuses_an_id_that_cannot_be(
        self, client: httpx.AsyncClient, guest_id: str
    ) -> None:
        assert (await client.get(f"{GUESTS}/{guest_id}")).status_code == 422

    async def test_unknown(self, client: httpx.AsyncClient) -> None:
        answer = await client.get(f"{GUESTS}/2147483647")
        assert answer.status_code == 404
        assert answer.json()["detail"] == "There is no guest 2147483647."


class TestListGuests:
    async def test_comes_in_pages(
        self,
        client: httpx.AsyncClient,
        db_session: AsyncSession,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(
            "app.extensions.hotel.api.guests.hotel_settings", HotelSettings(PAGE_SIZE=2)
        )
        db_session.add_all([HotelGuest(name=name) for name in ("Ada", "Grace", "Mary")])
        await db_session.commit()
        first = (await client.get(GUESTS)).json()
        assert [guest["name"] for guest in first] == ["Ada", "Grace"]
        second = (await client.get(GUESTS, params={"after": first[-1]["id"]})).json()
        assert [guest["name"] for guest in second] == ["Mary"]
