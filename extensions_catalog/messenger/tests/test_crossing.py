"""From the platform's delivery to the reply that it gets from a worker."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from app.extensions.messenger.tests.conftest import APP_SECRET, PAGE_TOKEN, VERIFY_TOKEN
from app.extensions.messenger.tests.deliveries import PERSON, a_delivery, a_message, signed
from app.extensions.messenger.tests.platform_server import PlatformServer, answer
from kit.testing import QueueProcess, own_database, run_api

pytestmark = pytest.mark.slow

DELIVERIES = 8


@pytest.fixture
def service(platform: PlatformServer) -> Iterator[httpx.Client]:
    """A service that replies automatically, and its worker."""
    with own_database() as environment:
        environment |= {
            "MESSENGER_APP_SECRET": APP_SECRET,
            "MESSENGER_VERIFY_TOKEN": VERIFY_TOKEN,
            "MESSENGER_PAGE_TOKEN": PAGE_TOKEN,
            "MESSENGER_GRAPH_URL": platform.url,
            "MESSENGER_AUTO_REPLY": "We will be with you soon.",
        }
        with (
            run_api(environment) as address,
            QueueProcess("worker", **environment) as worker,
            httpx.Client(base_url=address) as client,
        ):
            worker.wait_for("ready.")
            yield client


def test_a_message_delivered_many_times_is_answered_once(
    service: httpx.Client, platform: PlatformServer
) -> None:
    body = a_delivery(a_message("m_in"))

    def deliver(_: int) -> int:
        return service.post("/messenger/webhook", content=body, headers=signed(body)).status_code

    with ThreadPoolExecutor(DELIVERIES) as platforms:
        statuses = list(platforms.map(deliver, range(DELIVERIES)))

    assert statuses == [200] * DELIVERIES
    reply = wait_for_reply(service, "sent")
    assert (reply["psid"], reply["mid"]) == (PERSON, "m_1")
    assert platform.texts == ["We will be with you soon."]
    listed = service.get("/api/messenger/messages").json()
    assert [each["direction"] for each in listed] == ["in", "out"]


def test_a_refused_reply_says_why(service: httpx.Client, platform: PlatformServer) -> None:
    platform.answers = [answer(400, {"error": {"code": 10, "message": "outside of the window"}})]
    values = {"recipient_id": PERSON, "text": "Are you still there?"}
    assert service.post("/api/messenger/messages", json=values).status_code == 202
    assert wait_for_reply(service, "failed")["error"] == "400 10 outside of the window"


def wait_for_reply(service: httpx.Client, state: str) -> dict[str, object]:
    deadline = time.monotonic() + 20
    while True:
        listed = service.get("/api/messenger/messages", params={"direction": "out"}).json()
        for each in listed:
            if each["state"] == state:
                found: dict[str, object] = each
                return found
        assert time.monotonic() < deadline, f"no reply is {state}: {listed}"
        time.sleep(0.05)
