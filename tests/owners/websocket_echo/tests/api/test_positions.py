"""Positions that come through a WebSocket."""

import json

import httpx
import pytest
from websockets.sync.client import connect


@pytest.mark.slow
def test_each_message_is_stored(running_service: httpx.Client) -> None:
    url = running_service.base_url.copy_with(scheme="ws", path="/api/positions/report")
    with connect(str(url)) as socket:
        for number in (1, 2):
            socket.send("Harbour")
            assert json.loads(socket.recv()) == {"id": number}

    positions = running_service.get("/api/positions").json()
    assert [position["name"] for position in positions] == ["Local developer: Harbour"] * 2
