"""From a request over the API to what a receiver gets from a worker."""

import time
from typing import Any

import httpx
import pytest

from app.extensions.webhooks.tests.receiver import Receiver, status


@pytest.fixture
def processes_reach_receivers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOKS_ALLOW_PRIVATE_TARGETS", "true")


@pytest.mark.slow
def test_a_worker_delivers_and_a_dead_letter_is_sent_again(
    processes_reach_receivers: None, running_service: httpx.Client, receiver: Receiver
) -> None:
    values = {"url": receiver.url, "events": ["hotel.*"]}
    answer = running_service.post("/api/webhooks/subscriptions", json=values)
    assert answer.status_code == 201, answer.text
    receiver.secret = answer.json()["secret"]
    receiver.answers = [status(410)]
    subscription = f"/api/webhooks/subscriptions/{answer.json()['id']}"

    assert running_service.post(f"{subscription}/ping").status_code == 202
    dead = wait_for_delivery(running_service, "dead")
    assert dead["last_status"] == 410
    assert not running_service.get(subscription).json()["is_active"]

    assert running_service.put(subscription, json=values).json()["is_active"]
    replayed = running_service.post(f"/api/webhooks/deliveries/{dead['id']}/replay")
    assert replayed.status_code == 202
    delivered = wait_for_delivery(running_service, "delivered")

    assert delivered["id"] == dead["id"]
    assert [each["type"] for each in receiver.documents] == ["webhooks.ping"] * 2
    assert {each.headers["webhook-id"] for each in receiver.received} == {dead["message_id"]}


def wait_for_delivery(service: httpx.Client, state: str) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while True:
        listed = service.get("/api/webhooks/deliveries", params={"state": state}).json()
        if listed:
            found: dict[str, Any] = listed[0]
            return found
        assert time.monotonic() < deadline, f"no delivery is {state}"
        time.sleep(0.05)
