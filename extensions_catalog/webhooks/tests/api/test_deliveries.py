"""Routes below `/api/webhooks/deliveries`."""

from datetime import UTC, datetime

import httpx
import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from app.extensions.webhooks.models import DeliveryState, WebhookDelivery, WebhookSubscription
from app.extensions.webhooks.settings import webhooks_settings
from app.extensions.webhooks.tests.rows import a_delivery, a_subscription
from kit.testing import change_settings

DELIVERIES = "/api/webhooks/deliveries"
NOBODY = f"{DELIVERIES}/9223372036854775807"


@pytest.fixture
async def subscription(db_session: AsyncSession) -> WebhookSubscription:
    subscription = a_subscription()
    db_session.add(subscription)
    await db_session.commit()
    return subscription


@pytest.fixture
async def dead_letter(
    db_session: AsyncSession, subscription: WebhookSubscription
) -> WebhookDelivery:
    delivery = a_delivery(
        subscription,
        state=DeliveryState.DEAD,
        attempts=10,
        next_attempt_at=None,
        last_status=500,
        last_error="answered 500: ",
    )
    db_session.add(delivery)
    await db_session.commit()
    return delivery


@pytest.mark.parametrize(
    ("method", "path"), [("GET", DELIVERIES), ("GET", NOBODY), ("POST", f"{NOBODY}/replay")]
)
async def test_strangers_are_refused(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    change_settings(monkeypatch, ENVIRONMENT="production")
    assert (await client.request(method, path)).status_code == 401


@pytest.mark.parametrize(("method", "path"), [("GET", NOBODY), ("POST", f"{NOBODY}/replay")])
async def test_unknown(client: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 404
    assert answer.json()["detail"] == "There is no delivery 9223372036854775807."


class TestListDeliveries:
    @pytest.fixture
    async def one_of_each(
        self, db_session: AsyncSession, subscription: WebhookSubscription
    ) -> list[WebhookDelivery]:
        rows = [a_delivery(subscription, state=state) for state in DeliveryState]
        for row in rows:
            db_session.add(row)
            await db_session.commit()
        return rows

    @pytest.mark.parametrize(
        "parameters", [{"state": "lost"}, {"after": "-1"}, {"subscription_id": "x"}]
    )
    async def test_refuses_what_makes_no_sense(
        self, client: httpx.AsyncClient, parameters: dict[str, str]
    ) -> None:
        assert (await client.get(DELIVERIES, params=parameters)).status_code == 422

    @pytest.mark.parametrize("state", DeliveryState)
    async def test_filters_by_state(
        self,
        client: httpx.AsyncClient,
        one_of_each: list[WebhookDelivery],
        state: DeliveryState,
    ) -> None:
        listed = (await client.get(DELIVERIES, params={"state": state})).json()
        assert [each["state"] for each in listed] == [state]
        assert len((await client.get(DELIVERIES)).json()) == 3

    async def test_filters_by_subscription(
        self,
        client: httpx.AsyncClient,
        db_session: AsyncSession,
        one_of_each: list[WebhookDelivery],
    ) -> None:
        other = a_subscription()
        db_session.add(other)
        await db_session.commit()
        db_session.add(a_delivery(other))
        await db_session.commit()
        listed = (await client.get(DELIVERIES, params={"subscription_id": other.id or 0})).json()
        assert [each["subscription_id"] for each in listed] == [other.id]

    async def test_comes_in_pages_and_without_the_bodies(
        self,
        client: httpx.AsyncClient,
        one_of_each: list[WebhookDelivery],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        change_settings(monkeypatch, webhooks_settings, PAGE_SIZE=2)
        first = (await client.get(DELIVERIES)).json()
        assert [each["id"] for each in first] == [each.id for each in one_of_each[:2]]
        second = (await client.get(DELIVERIES, params={"after": first[-1]["id"]})).json()
        assert [each["id"] for each in second] == [one_of_each[2].id]
        assert "body" not in first[0]


class TestReadDelivery:
    async def test_shows_what_was_sent_and_what_came_of_it(
        self, client: httpx.AsyncClient, dead_letter: WebhookDelivery
    ) -> None:
        read = (await client.get(f"{DELIVERIES}/{dead_letter.id}")).json()
        assert read["body"] == dead_letter.body
        assert (read["state"], read["attempts"], read["last_status"]) == ("dead", 10, 500)


class TestReplay:
    async def test_refuses_what_is_pending(
        self,
        client: httpx.AsyncClient,
        db_session: AsyncSession,
        subscription: WebhookSubscription,
        sent_tasks: list[str],
    ) -> None:
        """One that is being attempted would otherwise be attempted twice at the same time."""
        delivery = a_delivery(subscription, attempts=2)
        db_session.add(delivery)
        await db_session.commit()
        answer = await client.post(f"{DELIVERIES}/{delivery.id}/replay")
        assert answer.status_code == 409
        await db_session.refresh(delivery)
        assert delivery.attempts == 2
        assert sent_tasks == []

    @pytest.mark.parametrize("state", [DeliveryState.DEAD, DeliveryState.DELIVERED])
    async def test_begins_anew_with_the_same_message(
        self,
        client: httpx.AsyncClient,
        db_session: AsyncSession,
        dead_letter: WebhookDelivery,
        sent_tasks: list[str],
        *,
        state: DeliveryState,
    ) -> None:
        dead_letter.state = state
        await db_session.commit()
        message_id, body = dead_letter.message_id, dead_letter.body
        answer = await client.post(f"{DELIVERIES}/{dead_letter.id}/replay")
        assert answer.status_code == 202, answer.text
        assert answer.json()["state"] == "pending"
        await db_session.refresh(dead_letter)
        assert (dead_letter.state, dead_letter.attempts) == (DeliveryState.PENDING, 0)
        assert (dead_letter.message_id, dead_letter.body) == (message_id, body)
        assert dead_letter.next_attempt_at is not None
        assert dead_letter.next_attempt_at <= datetime.now(UTC)
        assert len(sent_tasks) == 1
