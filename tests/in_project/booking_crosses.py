"""A booking that two other extensions are told of. Runs in a project that has all three.

None of them imports another: core's messages carry it from the hotel to mail and webhooks.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date, timedelta

import httpx
import pytest
from app.extensions.mail.tests.mail_server import MailServer
from app.extensions.webhooks.tests.receiver import Receiver
from kit.testing import QueueProcess, own_database, run_api

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(secret="") as receiver:
        yield receiver


@pytest.fixture
def service(server: MailServer) -> Iterator[httpx.Client]:
    """API and worker, which send their mail to that server."""
    with ExitStack() as stack:
        environment = stack.enter_context(own_database()) | {
            "MAIL_SMTP_HOST": "127.0.0.1",
            "MAIL_SMTP_PORT": str(server.port),
            "MAIL_SMTP_TLS": "none",
            "MAIL_FROM": "hotel@example.com",
            "WEBHOOKS_ALLOW_PRIVATE_TARGETS": "true",
        }
        address = stack.enter_context(run_api(environment))
        stack.enter_context(QueueProcess("worker", **environment)).wait_for("ready.")
        yield stack.enter_context(httpx.Client(base_url=address))


def created(answer: httpx.Response) -> dict[str, object]:
    assert answer.status_code == 201, answer.text
    document: dict[str, object] = answer.json()
    return document


def wait_until(happened: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.05)


def test_a_booking_is_mailed_to_the_guest_and_sent_to_subscribers(
    service: httpx.Client, server: MailServer, receiver: Receiver
) -> None:
    subscription = {"url": receiver.url, "events": ["hotel.booking-confirmed"]}
    receiver.secret = str(
        created(service.post("/api/webhooks/subscriptions", json=subscription))["secret"]
    )
    room = created(service.post("/api/hotel/rooms", json={"name": "12", "beds": 2}))
    ada = {"name": "Ada Lovelace", "email": "ada@example.com"}
    guest = created(service.post("/api/hotel/guests", json=ada))
    arrival = date.today() + timedelta(days=3)  # noqa: DTZ011 (as a caller would)
    booking = created(
        service.post(
            "/api/hotel/bookings",
            json={
                "room_id": room["id"],
                "guest_id": guest["id"],
                "arrival": arrival.isoformat(),
                "departure": (arrival + timedelta(days=2)).isoformat(),
            },
        )
    )

    wait_until(lambda: server.mails, "the mail")
    wait_until(lambda: receiver.received, "the webhook")

    [mail] = server.mails
    assert mail["To"] == "Ada Lovelace <ada@example.com>" or "ada@example.com" in mail["To"]
    assert arrival.isoformat() in mail["Subject"]
    [document] = receiver.documents
    assert document["type"] == "hotel.booking-confirmed"
    assert document["data"]["booking_id"] == booking["id"]


def test_a_booking_that_is_refused_is_told_to_nobody(
    service: httpx.Client, server: MailServer, receiver: Receiver
) -> None:
    subscription = {"url": receiver.url, "events": ["hotel.*"]}
    receiver.secret = str(
        created(service.post("/api/webhooks/subscriptions", json=subscription))["secret"]
    )
    room = created(service.post("/api/hotel/rooms", json={"name": "12", "beds": 2}))
    grace = {"name": "Grace Hopper", "email": "grace@example.com"}
    guest = created(service.post("/api/hotel/guests", json=grace))
    arrival = date.today() + timedelta(days=3)  # noqa: DTZ011
    nights = {"arrival": arrival.isoformat(), "departure": str(arrival + timedelta(days=2))}
    booking = {"room_id": room["id"], "guest_id": guest["id"], **nights}
    created(service.post("/api/hotel/bookings", json=booking))
    wait_until(lambda: server.mails and receiver.received, "the first booking's mail and webhook")

    assert service.post("/api/hotel/bookings", json=booking).status_code == 409

    other = created(service.post("/api/hotel/rooms", json={"name": "14", "beds": 1}))
    created(service.post("/api/hotel/bookings", json=booking | {"room_id": other["id"]}))
    wait_until(lambda: len(server.mails) > 1 and len(receiver.received) > 1, "the next booking's")
    rooms = [document["data"]["room"] for document in receiver.documents]
    assert rooms == ["12", "14"]
    assert len(server.mails) == 2
