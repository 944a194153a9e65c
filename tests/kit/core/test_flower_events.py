import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from kombu import Connection

from app.core.celery import celery_app
from kit.queue import _app
from kit.redis._transport import Transport
from kit.testing._processes import RedisServer


@pytest.mark.slow
def test_events_are_received_soon_however_long_redis_was_away(
    use_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = use_redis()
    monkeypatch.setattr(_app, "FLOWER_PAUSE_SECONDS", 0.1)
    options = celery_app.conf.broker_transport_options

    def connect() -> Connection:
        return Connection(server.url, transport=Transport, transport_options=options)

    monkeypatch.setattr(celery_app, "connection", connect)
    heard: list[str] = []

    def hear(event: dict[str, Any]) -> None:
        heard.append(event["type"])
        raise SystemExit

    def receive() -> None:
        with suppress(SystemExit):
            _app.receive_events(SimpleNamespace(on_event=hear))

    server.kill()
    thread = threading.Thread(target=receive, daemon=True)
    thread.start()
    time.sleep(3)  # Flower's own would now pause for four seconds
    server.start()
    began = time.monotonic()
    while thread.is_alive() and time.monotonic() - began < 3:
        with connect() as connection:
            celery_app.events.Dispatcher(connection, enabled=True).send("task-heard")
        time.sleep(0.1)

    assert heard == ["task-heard"]
