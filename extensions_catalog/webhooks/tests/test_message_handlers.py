"""What becomes of other parts' messages."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlmodel import Session, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.extensions.webhooks.models import DeliveryState, WebhookDelivery
from app.extensions.webhooks.settings import webhooks_settings
from app.extensions.webhooks.tasks import deliver_due
from app.extensions.webhooks.tests.rows import a_subscription, add, deliveries, send
from kit.messages import publish


async def subscribe(session: AsyncSession, *events: str, **values: Any) -> int:
    subscription = a_subscription(events=list(events), **values)
    session.add(subscription)
    await session.commit()
    return subscription.id or 0


async def written(session: AsyncSession) -> list[WebhookDelivery]:
    return list(await session.exec(select(WebhookDelivery).order_by(col(WebhookDelivery.id))))


class TestWhatIsNotDelivered:
    async def test_a_message_that_was_rolled_back(
        self, db_session: AsyncSession, sent_tasks: list[str]
    ) -> None:
        await subscribe(db_session, "*")
        await publish(db_session, "hotel.room-booked", {})
        assert len(await written(db_session)) == 1
        await db_session.rollback()
        assert await written(db_session) == []
        assert sent_tasks == []

    async def test_one_whose_savepoint_was_rolled_back(
        self, db_session: AsyncSession, sent_tasks: list[str]
    ) -> None:
        await subscribe(db_session, "*")
        savepoint = await db_session.begin_nested()
        await publish(db_session, "hotel.room-booked", {})
        await savepoint.rollback()
        await db_session.commit()
        assert await written(db_session) == []
        assert sent_tasks == []

    @pytest.mark.parametrize(
        ("events", "name"),
        [
            (["hotel.room-booked"], "hotel.room-booked-twice"),
            (["hotel.room-booked"], "hotel"),
            (["hotel.*"], "hotel"),
            (["hotel.*"], "hotels.closed"),
            (["hotel.room.*"], "hotel.rooms"),
            (["Hotel.*"], "hotel.closed"),
            (["order.paid", "order.placed"], "order.lost"),
        ],
    )
    async def test_what_nobody_has_subscribed_to(
        self, db_session: AsyncSession, sent_tasks: list[str], *, events: list[str], name: str
    ) -> None:
        await subscribe(db_session, *events)
        await publish(db_session, name, {})
        await db_session.commit()
        assert await written(db_session) == []
        assert sent_tasks == []

    async def test_what_an_inactive_subscription_wants(
        self, db_session: AsyncSession, sent_tasks: list[str]
    ) -> None:
        await subscribe(db_session, "*", is_active=False)
        await publish(db_session, "hotel.room-booked", {})
        await db_session.commit()
        assert await written(db_session) == []

    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            ({"text": "x" * 65_536}, "WEBHOOKS_BODY_LIMIT"),
            ({"when": datetime.now(UTC)}, "not JSON serializable"),
            ({"number": float("nan")}, "not JSON compliant"),
        ],
    )
    async def test_what_cannot_be_sent_and_the_log_says_so(
        self,
        db_session: AsyncSession,
        sent_tasks: list[str],
        caplog: pytest.LogCaptureFixture,
        *,
        payload: Mapping[str, Any],
        reason: str,
    ) -> None:
        await subscribe(db_session, "*")
        await publish(db_session, "hotel.room-booked", payload)
        await db_session.commit()
        assert await written(db_session) == []
        assert reason in caplog.text

    async def test_a_body_of_exactly_the_limit_is_sent(
        self, db_session: AsyncSession, sent_tasks: list[str]
    ) -> None:
        await subscribe(db_session, "*")
        await publish(db_session, "hotel.room-booked", {"text": ""})
        [empty] = await written(db_session)
        rest = webhooks_settings.BODY_LIMIT - len(empty.body)
        await publish(db_session, "hotel.room-booked", {"text": "x" * rest})
        assert [len(each.body) for each in await written(db_session)][1:] == [
            webhooks_settings.BODY_LIMIT
        ]

    async def test_this_extensions_own_messages(
        self, db_session: AsyncSession, sent_tasks: list[str]
    ) -> None:
        """A subscription that was switched off could otherwise switch off the next, and so on."""
        await subscribe(db_session, "*", "webhooks.*")
        await publish(db_session, "webhooks.subscription-switched-off", {})
        await db_session.commit()
        assert await written(db_session) == []


class TestWhatIsDelivered:
    @pytest.mark.parametrize(
        ("events", "name"),
        [
            (["*"], "hotel.room-booked"),
            (["hotel.*"], "hotel.room-booked"),
            (["hotel.*"], "hotel.room.booked"),
            (["hotel.room.*"], "hotel.room.booked"),
            (["hotel.room-booked"], "hotel.room-booked"),
            (["order.paid", "hotel.room-booked", "hotel.*"], "hotel.room-booked"),
        ],
    )
    async def test_what_was_subscribed_to_once_each(
        self, db_session: AsyncSession, sent_tasks: list[str], *, events: list[str], name: str
    ) -> None:
        subscription_id = await subscribe(db_session, *events)
        await publish(db_session, name, {"room_id": 4})
        await db_session.commit()
        (delivery,) = await written(db_session)
        assert (delivery.subscription_id, delivery.event) == (subscription_id, name)
        assert (delivery.state, delivery.attempts) == (DeliveryState.PENDING, 0)
        document = json.loads(delivery.body)
        assert list(document) == ["type", "timestamp", "data"]
        assert document["type"] == name
        assert document["timestamp"].endswith("Z")
        assert document["data"] == {"room_id": 4}

    async def test_the_same_message_to_each_subscription(
        self, db_session: AsyncSession, sent_tasks: list[str]
    ) -> None:
        ids = {await subscribe(db_session, "*") for _ in range(3)}
        await publish(db_session, "hotel.room-booked", {})
        await publish(db_session, "hotel.room-left", {})
        await db_session.commit()
        rows = await written(db_session)
        for name in ("hotel.room-booked", "hotel.room-left"):
            of_name = [row for row in rows if row.event == name]
            assert {row.subscription_id for row in of_name} == ids
            assert len({row.message_id for row in of_name}) == 1
            assert len({row.body for row in of_name}) == 1
        assert len({row.message_id for row in rows}) == 2

    async def test_soon_after_the_senders_commit(
        self, db_session: AsyncSession, sent_tasks: list[str]
    ) -> None:
        await subscribe(db_session, "*")
        await publish(db_session, "hotel.room-booked", {})
        assert sent_tasks == []
        await db_session.commit()
        assert sent_tasks == [deliver_due.name]

    def test_what_tasks_send_too(self, sync_db_session: Session, sent_tasks: list[str]) -> None:
        add(sync_db_session, a_subscription())
        send(sync_db_session)
        assert len(deliveries(sync_db_session)) == 1
        assert sent_tasks == [deliver_due.name]


async def test_a_queue_that_is_away_harms_neither_sender_nor_delivery(
    db_session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(deliver_due, "delay", refuse)
    await subscribe(db_session, "*")
    await publish(db_session, "hotel.room-booked", {})
    await db_session.commit()
    (delivery,) = await written(db_session)
    assert delivery.next_attempt_at is not None  # where the schedule finds it
    assert delivery.next_attempt_at <= datetime.now(UTC)
