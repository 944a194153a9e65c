"""Deliveries to a receiver that fails on purpose; the task is called in the test's transaction."""

import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlmodel import Session

from app.extensions.webhooks import attempts
from app.extensions.webhooks import outbox as webhooks_outbox
from app.extensions.webhooks.attempts import claim_due, record
from app.extensions.webhooks.client import Outcome
from app.extensions.webhooks.models import DeliveryState, WebhookDelivery, WebhookSubscription
from app.extensions.webhooks.settings import webhooks_settings
from app.extensions.webhooks.tasks import deliver_due
from app.extensions.webhooks.tests.receiver import (
    Answer,
    Receiver,
    drip,
    flood,
    hang_up,
    nonsense,
    silence,
    status,
)
from app.extensions.webhooks.tests.rows import (
    a_delivery,
    a_subscription,
    add,
    deliveries,
    let_waits_end,
    send,
)
from kit import outbox
from kit.queue import collect_schedules, read_redis_status
from kit.testing import change_settings

pytestmark = pytest.mark.usefixtures("sent_tasks")


@pytest.fixture
def subscription(sync_db_session: Session, receiver: Receiver) -> WebhookSubscription:
    subscription = a_subscription(receiver)
    add(sync_db_session, subscription)
    return subscription


def only_delivery(session: Session) -> WebhookDelivery:
    (delivery,) = deliveries(session)
    return delivery


def _seconds_left(session: Session) -> float:
    session.flush()
    next_attempt_at = only_delivery(session).next_attempt_at
    assert next_attempt_at is not None
    return (next_attempt_at - datetime.now(UTC)).total_seconds()


def test_nothing_is_due(sync_db_session: Session) -> None:
    assert deliver_due() == 0


class TestSuccess:
    def test_the_receiver_gets_the_message_and_can_trust_it(
        self, sync_db_session: Session, subscription: WebhookSubscription, receiver: Receiver
    ) -> None:
        before = datetime.now(UTC)
        send(sync_db_session, number=7)
        assert deliver_due() == 1

        (received,) = receiver.received
        assert received.path == "/hook?from=service"
        assert received.headers["content-type"] == "application/json"
        assert received.headers["user-agent"] == "standard-webhooks"
        assert received.headers["host"] == f"127.0.0.1:{receiver.port}"
        assert received.document["type"] == "order.paid"
        assert received.document["data"] == {"number": 7}
        moment = datetime.fromisoformat(received.document["timestamp"])
        assert before - timedelta(milliseconds=1) <= moment <= datetime.now(UTC)

        delivery = only_delivery(sync_db_session)
        assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 1)
        assert (delivery.last_status, delivery.last_error) == (200, None)
        assert delivery.next_attempt_at is None
        assert received.headers["webhook-id"] == delivery.message_id
        assert received.body == delivery.body.encode()

    def test_it_gets_it_once(
        self, sync_db_session: Session, subscription: WebhookSubscription, receiver: Receiver
    ) -> None:
        send(sync_db_session)
        assert [deliver_due(), deliver_due()] == [1, 0]
        assert len(receiver.received) == 1

    @pytest.mark.parametrize("code", [201, 202, 204])
    def test_any_2xx_will_do(
        self,
        sync_db_session: Session,
        subscription: WebhookSubscription,
        receiver: Receiver,
        code: int,
    ) -> None:
        receiver.answers = [status(code)]
        send(sync_db_session)
        deliver_due()
        assert only_delivery(sync_db_session).state == DeliveryState.DELIVERED

    def test_letters_of_any_script_arrive(
        self, sync_db_session: Session, subscription: WebhookSubscription, receiver: Receiver
    ) -> None:
        from kit.messages import publish_sync

        data = {"name": "Zoë \x00 😀 \ud800"}
        publish_sync(sync_db_session, "guest.arrived", data)
        sync_db_session.commit()
        deliver_due()
        assert receiver.documents[0]["data"] == data

    def test_a_replaced_secret_signs_beside_the_new_one_for_a_while(
        self, sync_db_session: Session, subscription: WebhookSubscription, receiver: Receiver
    ) -> None:
        from app.extensions.webhooks.subscriptions import replace_secret

        replace_secret(subscription)
        add(sync_db_session, subscription)
        send(sync_db_session, number=1)
        deliver_due()
        receiver.secret, before = subscription.secret, receiver.secret
        send(sync_db_session, number=2)
        deliver_due()
        subscription.previous_secret_until = datetime.now(UTC)
        add(sync_db_session, subscription)
        send(sync_db_session, number=3)
        deliver_due()
        receiver.secret = before
        send(sync_db_session, number=4)
        deliver_due()

        data = [each and each["data"]["number"] for each in receiver.documents]
        assert data == [1, 2, 3, None]


class TestFailure:
    def test_500_and_500_and_then_200(
        self, sync_db_session: Session, subscription: WebhookSubscription, receiver: Receiver
    ) -> None:
        receiver.answers = [status(500, b"out of order"), status(500)]
        send(sync_db_session)

        waits = []
        for _ in range(2):
            deliver_due()
            delivery = only_delivery(sync_db_session)
            assert delivery.state == DeliveryState.PENDING
            assert delivery.next_attempt_at is not None
            waits.append((delivery.next_attempt_at - datetime.now(UTC)).total_seconds())
            assert deliver_due() == 0, "it did not wait"
            if delivery.attempts == 1:
                assert delivery.last_error == "answered 500: out of order"
            let_waits_end(sync_db_session)
        assert 23 < waits[0] <= 36
        assert 95 < waits[1] <= 144

        deliver_due()
        delivery = only_delivery(sync_db_session)
        assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 3)
        assert (delivery.last_status, delivery.last_error) == (200, None)
        assert {each.headers["webhook-id"] for each in receiver.received} == {delivery.message_id}
        assert all(receiver.documents)

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (status(302, location="/elsewhere"), "answered 302: "),
            (status(400, b"no\x00\xff\x1b[2J\r\nsuch"), "answered 400: no \ufffd [2J  such"),
            (status(404), "answered 404: "),
            (status(503, b"x" * 1000), "answered 503: " + "x" * 200),
            (nonsense, "RemoteProtocolError: "),
            (hang_up, "RemoteProtocolError: "),
        ],
    )
    def test_is_noted(
        self,
        sync_db_session: Session,
        subscription: WebhookSubscription,
        receiver: Receiver,
        answer: Answer,
        error: str,
    ) -> None:
        receiver.answers = [answer]
        send(sync_db_session)
        deliver_due()
        delivery = only_delivery(sync_db_session)
        assert (delivery.state, delivery.attempts) == (DeliveryState.PENDING, 1)
        assert (delivery.last_error or "").startswith(error)
        assert len(delivery.last_error or "") < 300

    def test_nobody_listens(
        self, sync_db_session: Session, private_targets: None, unused_tcp_port: int
    ) -> None:
        add(sync_db_session, a_subscription(url=f"http://127.0.0.1:{unused_tcp_port}/"))
        send(sync_db_session)
        deliver_due()
        delivery = only_delivery(sync_db_session)
        assert delivery.last_status is None
        assert "refused" in (delivery.last_error or "")

    @pytest.mark.parametrize("code", [301, 302, 307, 308])
    def test_redirects_are_not_followed(
        self,
        sync_db_session: Session,
        subscription: WebhookSubscription,
        receiver: Receiver,
        other_receiver: Receiver,
        code: int,
    ) -> None:
        receiver.answers = [status(code, location=other_receiver.url)]
        send(sync_db_session)
        deliver_due()
        assert only_delivery(sync_db_session).last_status == code
        assert len(receiver.received) == 1
        assert other_receiver.received == []

    def test_a_mistake_of_ours_stops_no_other_delivery(
        self,
        sync_db_session: Session,
        subscription: WebhookSubscription,
        receiver: Receiver,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        broken = a_subscription(receiver, secret="whsec_x")  # no base64
        add(sync_db_session, broken)
        send(sync_db_session)
        assert deliver_due() == 2
        by_subscription = {each.subscription_id: each for each in deliveries(sync_db_session)}
        assert by_subscription[subscription.id or 0].state == DeliveryState.DELIVERED
        failed = by_subscription[broken.id or 0]
        assert (failed.state, failed.attempts) == (DeliveryState.PENDING, 1)
        assert failed.last_error == "Error: the service's log tells more"
        assert "Traceback" in caplog.text


class TestTimeAndSize:
    @pytest.mark.parametrize(
        "beginning", [b"", b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 100 Continue\r\n\r\n" * 3]
    )
    def test_an_attempt_ends_however_slowly_the_receiver_speaks(
        self,
        sync_db_session: Session,
        subscription: WebhookSubscription,
        receiver: Receiver,
        monkeypatch: pytest.MonkeyPatch,
        beginning: bytes,
    ) -> None:
        change_settings(monkeypatch, webhooks_settings, TIMEOUT=0.5)
        receiver.answers = [drip(receiver, beginning)]
        send(sync_db_session)
        began = time.monotonic()
        deliver_due()
        assert time.monotonic() - began < 3
        assert only_delivery(sync_db_session).last_error == "no answer within 0.5 s"

    def test_an_attempt_ends_when_there_is_no_answer(
        self,
        sync_db_session: Session,
        subscription: WebhookSubscription,
        receiver: Receiver,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        change_settings(monkeypatch, webhooks_settings, TIMEOUT=0.5)
        receiver.answers = [silence(receiver)]
        send(sync_db_session)
        began = time.monotonic()
        deliver_due()
        assert 0.4 < time.monotonic() - began < 3
        assert only_delivery(sync_db_session).last_error == "no answer within 0.5 s"

    def test_the_status_counts_also_when_the_rest_never_ends(
        self,
        sync_db_session: Session,
        subscription: WebhookSubscription,
        receiver: Receiver,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        change_settings(monkeypatch, webhooks_settings, TIMEOUT=0.5)
        beginning = b"HTTP/1.1 500 Oh\r\nContent-Length: 1000\r\n\r\n"
        receiver.answers = [drip(receiver, beginning)]
        send(sync_db_session)
        deliver_due()
        delivery = only_delivery(sync_db_session)
        assert delivery.last_status == 500
        assert (delivery.last_error or "").startswith("answered 500: x")

    @pytest.mark.parametrize(
        ("code", "state"), [(200, DeliveryState.DELIVERED), (500, DeliveryState.PENDING)]
    )
    def test_a_body_without_an_end_is_not_read(
        self,
        sync_db_session: Session,
        subscription: WebhookSubscription,
        receiver: Receiver,
        code: int,
        state: DeliveryState,
    ) -> None:
        receiver.answers = [flood(receiver, code)]
        send(sync_db_session)
        began = time.monotonic()
        deliver_due()
        assert time.monotonic() - began < 3
        delivery = only_delivery(sync_db_session)
        assert delivery.state == state
        assert len(delivery.last_error or "") < 300


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("600", 600),
            ("1", 30),  # sooner than we would have come back
            ("99999999", 86_400),
            ("-5", 30),
            ("soon", 30),
            ("Thu, 01 Jan 2026 00:00:00 GMT", 30),  # the past
            (f"Thu, 01 Jan {10**20} 00:00:00 GMT", 30),
        ],
    )
    def test_is_heeded_within_limits(
        self,
        sync_db_session: Session,
        subscription: WebhookSubscription,
        receiver: Receiver,
        monkeypatch: pytest.MonkeyPatch,
        *,
        value: str,
        seconds: int,
    ) -> None:
        monkeypatch.setattr(outbox, "JITTER", 0)
        receiver.answers = [status(429, retry_after=value)]
        send(sync_db_session)
        deliver_due()
        delivery = only_delivery(sync_db_session)
        assert delivery.last_status == 429
        next_attempt_at = delivery.next_attempt_at
        assert next_attempt_at is not None
        wait = (next_attempt_at - datetime.now(UTC)).total_seconds()
        assert seconds - 5 < wait <= seconds

    def test_may_be_a_date(
        self,
        sync_db_session: Session,
        subscription: WebhookSubscription,
        receiver: Receiver,
    ) -> None:
        moment = datetime.now(UTC) + timedelta(hours=2)
        receiver.answers = [status(503, retry_after=f"{moment:%a, %d %b %Y %H:%M:%S GMT}")]
        send(sync_db_session)
        deliver_due()
        next_attempt_at = only_delivery(sync_db_session).next_attempt_at
        assert next_attempt_at is not None
        assert abs(next_attempt_at - moment) < timedelta(seconds=5)


def given_up() -> int:
    """Deliveries that metrics count as given up."""
    return read_redis_status().counts.get(f"{outbox.FAILURES}webhooks_delivery", 0)


class TestTheEnd:
    def test_the_last_attempt_makes_a_dead_letter(
        self,
        sync_db_session: Session,
        subscription: WebhookSubscription,
        receiver: Receiver,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        change_settings(monkeypatch, webhooks_settings, ATTEMPTS=2)
        receiver.answers = [status(500)] * 5
        failed = given_up()
        send(sync_db_session)
        for _ in range(4):
            deliver_due()
            let_waits_end(sync_db_session)
        delivery = only_delivery(sync_db_session)
        assert (delivery.state, delivery.attempts) == (DeliveryState.DEAD, 2)
        assert delivery.next_attempt_at is None
        assert len(receiver.received) == 2
        sync_db_session.refresh(subscription)
        assert (subscription.is_active, subscription.dead_letters) == (True, 1)
        assert given_up() == failed + 1

    def test_dead_letters_in_a_row_switch_the_subscription_off(
        self,
        sync_db_session: Session,
        subscription: WebhookSubscription,
        receiver: Receiver,
        monkeypatch: pytest.MonkeyPatch,
        switched_off: list[Mapping[str, Any]],
    ) -> None:
        change_settings(monkeypatch, webhooks_settings, ATTEMPTS=1, DEAD_LETTER_LIMIT=2)
        # The success between them starts the count anew.
        receiver.answers = [status(500), status(200), status(500), status(500), status(500)]
        for number in range(4):
            sync_db_session.refresh(subscription)
            assert subscription.is_active
            send(sync_db_session, number)
            deliver_due()
        sync_db_session.refresh(subscription)
        assert not subscription.is_active
        assert subscription.switched_off_because == "2 deliveries in a row were given up"
        assert switched_off == [
            {
                "subscription_id": subscription.id,
                "url": receiver.url,
                "reason": "2 deliveries in a row were given up",
            }
        ]

    def test_410_switches_the_subscription_off_at_once(
        self,
        sync_db_session: Session,
        subscription: WebhookSubscription,
        receiver: Receiver,
        switched_off: list[Mapping[str, Any]],
    ) -> None:
        receiver.answers = [status(410)]
        send(sync_db_session)
        deliver_due()
        assert only_delivery(sync_db_session).state == DeliveryState.DEAD
        sync_db_session.refresh(subscription)
        assert not subscription.is_active
        assert "410" in (subscription.switched_off_because or "")
        assert [each["subscription_id"] for each in switched_off] == [subscription.id]

        send(sync_db_session)
        assert len(deliveries(sync_db_session)) == 1

    def test_what_waits_goes_out_when_the_subscription_is_on_again(
        self, sync_db_session: Session, subscription: WebhookSubscription, receiver: Receiver
    ) -> None:
        send(sync_db_session)
        subscription.is_active = False
        add(sync_db_session, subscription)
        assert deliver_due() == 0
        subscription.is_active = True
        add(sync_db_session, subscription)
        assert deliver_due() == 1
        assert len(receiver.received) == 1


class TestPrivateTargets:
    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"])
    def test_get_nothing_even_when_they_stand_in_the_table(
        self,
        sync_db_session: Session,
        receiver: Receiver,
        monkeypatch: pytest.MonkeyPatch,
        host: str,
    ) -> None:
        """`localhost` is a name, which the system's resolver makes an address of."""
        change_settings(monkeypatch, webhooks_settings, ALLOW_PRIVATE_TARGETS=False)
        add(sync_db_session, a_subscription(receiver, url=f"http://{host}:{receiver.port}/"))
        send(sync_db_session)
        deliver_due()
        assert receiver.received == []
        delivery = only_delivery(sync_db_session)
        assert delivery.last_status is None
        assert "no public address" in (delivery.last_error or "")

    def test_a_name_that_changes_its_address_gains_nothing(
        self,
        sync_db_session: Session,
        receiver: Receiver,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The address that was checked is the one that is connected to; nobody looks again."""
        look_up = socket.getaddrinfo
        lookups: list[object] = []

        def rebinding(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
            if host not in (b"rebinding.example", "rebinding.example"):
                return look_up(host, port, *arguments, **options)
            lookups.append(host)
            address = "127.0.0.1" if len(lookups) == 1 else "127.0.0.2"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        url = f"http://rebinding.example:{receiver.port}/"
        add(sync_db_session, a_subscription(receiver, url=url))
        send(sync_db_session)
        deliver_due()
        assert len(lookups) == 1
        assert only_delivery(sync_db_session).state == DeliveryState.DELIVERED
        assert receiver.received[0].headers["host"] == f"rebinding.example:{receiver.port}"

    def test_each_attempt_looks_the_name_up_and_checks_it(
        self,
        sync_db_session: Session,
        receiver: Receiver,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        receiver.answers = [status(500)]
        url = f"http://localhost:{receiver.port}/"
        add(sync_db_session, a_subscription(receiver, url=url))
        send(sync_db_session)
        deliver_due()
        assert only_delivery(sync_db_session).last_status == 500
        change_settings(monkeypatch, webhooks_settings, ALLOW_PRIVATE_TARGETS=False)
        let_waits_end(sync_db_session)
        deliver_due()
        assert "no public address" in (only_delivery(sync_db_session).last_error or "")
        assert len(receiver.received) == 1


class TestClaims:
    def test_are_made_of_each_subscription_in_turn(
        self, sync_db_session: Session, subscription: WebhookSubscription
    ) -> None:
        other = a_subscription()
        add(sync_db_session, other)
        many = [a_delivery(subscription) for _ in range(4)]
        add(sync_db_session, *many, a_delivery(other), a_delivery(other))
        claims = claim_due(sync_db_session, 5)
        assert [each.subscription_id for each in claims] == [
            subscription.id,
            other.id,
            subscription.id,
            other.id,
            subscription.id,
        ]
        assert [each.delivery_id for each in claims][::2] == [each.id for each in many[:3]]

    def test_of_an_attempt_that_was_lost_are_made_again(
        self, sync_db_session: Session, subscription: WebhookSubscription, receiver: Receiver
    ) -> None:
        send(sync_db_session)
        claim_due(sync_db_session, 10)
        sync_db_session.commit()
        assert deliver_due() == 0, "the first attempt may still be running"
        let_waits_end(sync_db_session)
        assert deliver_due() == 1
        delivery = only_delivery(sync_db_session)
        assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 2)

    @pytest.mark.parametrize("hours", [-1, 1])
    def test_last_as_long_on_a_machine_whose_clock_is_wrong(
        self,
        sync_db_session: Session,
        subscription: WebhookSubscription,
        monkeypatch: pytest.MonkeyPatch,
        hours: int,
    ) -> None:
        class Wrong(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return datetime.now(tz) + timedelta(hours=hours)

        monkeypatch.setattr(attempts, "datetime", Wrong)
        monkeypatch.setattr(webhooks_outbox, "datetime", Wrong)
        send(sync_db_session)
        (attempt,) = claim_due(sync_db_session, 10)
        lease = webhooks_settings.TIMEOUT + attempts.LEASE_SECONDS
        assert abs(_seconds_left(sync_db_session) - lease) < 10
        assert claim_due(sync_db_session, 10) == []

        record(sync_db_session, attempt, Outcome(status=500, error="answered 500"))
        assert abs(_seconds_left(sync_db_session) - attempts.FIRST_WAIT) < 10
        replayed = only_delivery(sync_db_session)
        replayed.state = DeliveryState.DEAD
        assert webhooks_outbox.replay(replayed)
        sync_db_session.commit()
        assert len(claim_due(sync_db_session, 10)) == 1

    def test_of_another_attempt_make_the_one_before_count_no_more(
        self, sync_db_session: Session, subscription: WebhookSubscription
    ) -> None:
        send(sync_db_session)
        (slow,) = claim_due(sync_db_session, 10)
        let_waits_end(sync_db_session)
        (second,) = claim_due(sync_db_session, 10)
        sync_db_session.commit()

        record(sync_db_session, slow, Outcome(error="came after it had counted as lost"))
        sync_db_session.commit()
        delivery = only_delivery(sync_db_session)
        assert (delivery.last_error, delivery.attempts) == (None, 2)

        record(sync_db_session, second, Outcome(status=200))
        sync_db_session.commit()
        assert only_delivery(sync_db_session).state == DeliveryState.DELIVERED

    def test_outlast_the_request(
        self, sync_db_session: Session, subscription: WebhookSubscription
    ) -> None:
        send(sync_db_session)
        claim_due(sync_db_session, 10)
        next_attempt_at = only_delivery(sync_db_session).next_attempt_at
        assert next_attempt_at is not None
        assert next_attempt_at - datetime.now(UTC) > timedelta(seconds=15 + 30)

    def test_of_a_subscription_that_went_meanwhile_come_to_nothing(
        self, sync_db_session: Session, subscription: WebhookSubscription
    ) -> None:
        send(sync_db_session)
        (attempt,) = claim_due(sync_db_session, 10)
        sync_db_session.commit()
        sync_db_session.delete(subscription)
        sync_db_session.commit()
        record(sync_db_session, attempt, Outcome(status=200))
        assert deliveries(sync_db_session) == []


class TestRuns:
    def test_several_receivers_are_asked_at_the_same_time(
        self,
        sync_db_session: Session,
        receiver: Receiver,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Five that never answer take as long as one."""
        change_settings(monkeypatch, webhooks_settings, TIMEOUT=1)
        receiver.answers = [silence(receiver)] * 5
        add(sync_db_session, *(a_subscription(receiver) for _ in range(5)))
        send(sync_db_session)
        began = time.monotonic()
        assert deliver_due() == 5
        assert time.monotonic() - began < 3

    def test_a_long_one_lets_other_tasks_in_and_goes_on_after_them(
        self,
        sync_db_session: Session,
        subscription: WebhookSubscription,
        monkeypatch: pytest.MonkeyPatch,
        sent_tasks: list[str],
    ) -> None:
        change_settings(monkeypatch, webhooks_settings, CONCURRENCY=2)
        monkeypatch.setattr(outbox, "RUN_SECONDS", 0)
        add(sync_db_session, *(a_delivery(subscription) for _ in range(3)))
        assert deliver_due() == 2
        assert sent_tasks == [deliver_due.name]
        assert deliver_due() == 1

    def test_beat_sends_one_every_now_and_then(self) -> None:
        entry = collect_schedules()["webhooks.deliver-due"]
        assert entry["task"] == deliver_due.name
        assert entry["schedule"] == entry["options"]["expires"] == 30
