"""The weather, without its station."""

import httpx
import pytest

from app.api.stations import Station, get_station
from app.main import app


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.dependency_overrides, get_station, lambda: Station(-5))


async def test_cold(cold: None, client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/stations")
    assert answer.json() == {"degrees": -5, "rows": 1}


async def test_as_it_is(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/stations")).json() == {"degrees": 21, "rows": 1}
