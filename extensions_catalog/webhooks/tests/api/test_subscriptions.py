"""Routes below `/api/webhooks/subscriptions`."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.extensions.webhooks.models import DeliveryState, WebhookDelivery, WebhookSubscription
from app.extensions.webhooks.settings import webhooks_settings
from app.extensions.webhooks.tests.rows import a_delivery, a_subscription
from kit.testing import change_settings

SUBSCRIPTIONS = "/api/webhooks/subscriptions"
NOBODY = f"{SUBSCRIPTIONS}/2147483647"
VALUES = {"url": "https://example.com/hook", "events": ["hotel.*"]}


@pytest.fixture
async def subscription(db_session: AsyncSession) -> WebhookSubscription:
    subscription = a_subscription(description="Bookkeeping", dead_letters=3)
    db_session.add(subscription)
    await db_session.commit()
    return subscription


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", SUBSCRIPTIONS),
        ("POST", SUBSCRIPTIONS),
        ("GET", NOBODY),
        ("PUT", NOBODY),
        ("DELETE", NOBODY),
        ("POST", f"{NOBODY}/secret"),
        ("POST", f"{NOBODY}/ping"),
    ],
)
async def test_strangers_are_refused(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    change_settings(monkeypatch, ENVIRONMENT="production")
    assert (await client.request(method, path)).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", NOBODY),
        ("PUT", NOBODY),
        ("DELETE", NOBODY),
        ("POST", f"{NOBODY}/secret"),
        ("POST", f"{NOBODY}/ping"),
    ],
)
async def test_unknown(client: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, path, json=VALUES if method == "PUT" else None)
    assert answer.status_code == 404
    assert answer.json()["detail"] == "There is no subscription 2147483647."


class TestCreateSubscription:
    @pytest.mark.parametrize(
        ("values", "pointer", "reason"),
        [
            ({"url": None}, "/url", "valid string"),
            ({"url": "http://example.com/"}, "/url", "expected https://"),
            ({"url": "https://"}, "/url", "expected https://host/path"),
            ({"url": "https://10.0.0.1/"}, "/url", "10.0.0.1 is no public address"),
            ({"url": "https://[::ffff:7f00:1]/"}, "/url", "no public address"),
            ({"url": "https://localhost/"}, "/url", "no public address"),
            ({"events": []}, "/events", "at least 1"),
            ({"events": ["*"] * 51}, "/events", "at most 50"),
            ({"events": ["hotel*"]}, "/events/0", "pattern"),
            ({"events": ["hotel.*", "*.booked"]}, "/events/1", "pattern"),
            ({"events": ["hotel..*"]}, "/events/0", "pattern"),
            ({"events": [""]}, "/events/0", "pattern"),
            ({"events": ["x" * 101]}, "/events/0", "at most 100"),
            ({"description": "x" * 201}, "/description", "at most 200"),
        ],
    )
    async def test_refuses_with_the_reason(
        self, client: httpx.AsyncClient, values: dict[str, Any], *, pointer: str, reason: str
    ) -> None:
        answer = await client.post(SUBSCRIPTIONS, json=VALUES | values)
        assert answer.status_code == 422, answer.text
        (error,) = answer.json()["errors"]
        assert error["pointer"] == pointer
        assert reason.lower() in error["detail"].lower()

    async def test_shows_the_secret_this_once(
        self, client: httpx.AsyncClient, db_session: AsyncSession
    ) -> None:
        answer = await client.post(SUBSCRIPTIONS, json=VALUES)
        assert answer.status_code == 201, answer.text
        created = answer.json()
        assert created["secret"].startswith("whsec_")
        assert created["is_active"]
        kept = (await db_session.exec(select(WebhookSubscription))).one()
        assert (kept.id, kept.secret, kept.events) == (
            created["id"],
            created["secret"],
            ["hotel.*"],
        )

        read = await client.get(f"{SUBSCRIPTIONS}/{kept.id}")
        listed = await client.get(SUBSCRIPTIONS)
        assert read.json() == listed.json()[0]
        for later in (read, listed):
            assert "secret" not in later.text.replace("previous_secret_until", "")
            assert created["secret"] not in later.text

    async def test_secret_and_counters_are_not_the_callers(self, client: httpx.AsyncClient) -> None:
        sent = VALUES | {"secret": "whsec_AAAA", "id": 77, "dead_letters": 5}
        created = (await client.post(SUBSCRIPTIONS, json=sent)).json()
        assert created["secret"] != "whsec_AAAA"
        assert created["id"] != 77
        assert created["dead_letters"] == 0

    async def test_each_has_a_secret_of_its_own(self, client: httpx.AsyncClient) -> None:
        secrets = {(await client.post(SUBSCRIPTIONS, json=VALUES)).json()["secret"] for _ in "12"}
        assert len(secrets) == 2


class TestListSubscriptions:
    async def test_comes_in_pages(
        self,
        client: httpx.AsyncClient,
        db_session: AsyncSession,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        change_settings(monkeypatch, webhooks_settings, PAGE_SIZE=2)
        db_session.add_all([a_subscription(description=each) for each in ("one", "two", "three")])
        await db_session.commit()
        first = (await client.get(SUBSCRIPTIONS)).json()
        assert [each["description"] for each in first] == ["one", "two"]
        second = (await client.get(SUBSCRIPTIONS, params={"after": first[-1]["id"]})).json()
        assert [each["description"] for each in second] == ["three"]


class TestChangeSubscription:
    async def test_holds_to_the_same_rules(
        self, client: httpx.AsyncClient, subscription: WebhookSubscription
    ) -> None:
        values = VALUES | {"url": "https://192.168.0.1/"}
        answer = await client.put(f"{SUBSCRIPTIONS}/{subscription.id}", json=values)
        assert answer.status_code == 422

    async def test_replaces_what_callers_may_set_and_nothing_else(
        self,
        client: httpx.AsyncClient,
        db_session: AsyncSession,
        subscription: WebhookSubscription,
    ) -> None:
        secret = subscription.secret
        answer = await client.put(f"{SUBSCRIPTIONS}/{subscription.id}", json=VALUES)
        assert answer.status_code == 200, answer.text
        await db_session.refresh(subscription)
        assert subscription.events == ["hotel.*"]
        assert subscription.description == ""
        assert (subscription.secret, subscription.dead_letters) == (secret, 3)

    async def test_switching_off_and_on_forgets_failures(
        self,
        client: httpx.AsyncClient,
        db_session: AsyncSession,
        subscription: WebhookSubscription,
    ) -> None:
        subscription.switched_off_because = "the receiver answered 410"
        await db_session.commit()
        path = f"{SUBSCRIPTIONS}/{subscription.id}"
        off = (await client.put(path, json=VALUES | {"is_active": False})).json()
        assert (off["is_active"], off["dead_letters"]) == (False, 3)
        on = (await client.put(path, json=VALUES)).json()
        assert (on["is_active"], on["dead_letters"]) == (True, 0)
        assert on["switched_off_because"] is None


class TestDeleteSubscription:
    async def test_takes_the_deliveries_along(
        self,
        client: httpx.AsyncClient,
        db_session: AsyncSession,
        subscription: WebhookSubscription,
    ) -> None:
        db_session.add(a_delivery(subscription))
        await db_session.commit()
        path = f"{SUBSCRIPTIONS}/{subscription.id}"
        assert (await client.delete(path)).status_code == 204
        assert (await client.get(path)).status_code == 404
        assert (await db_session.exec(select(WebhookDelivery.id))).all() == []


class TestRotateSecret:
    async def test_shows_the_new_one_and_keeps_the_old_one_for_a_day(
        self,
        client: httpx.AsyncClient,
        db_session: AsyncSession,
        subscription: WebhookSubscription,
    ) -> None:
        before = subscription.secret
        answer = await client.post(f"{SUBSCRIPTIONS}/{subscription.id}/secret")
        assert answer.status_code == 200, answer.text
        await db_session.refresh(subscription)
        assert answer.json()["secret"] == subscription.secret != before
        assert subscription.previous_secret == before
        assert subscription.previous_secret_until is not None
        remaining = subscription.previous_secret_until - datetime.now(UTC)
        assert timedelta(hours=23) < remaining <= timedelta(hours=24)
        assert before not in answer.text


class TestPing:
    async def test_writes_a_delivery_for_this_subscription_alone(
        self,
        client: httpx.AsyncClient,
        db_session: AsyncSession,
        subscription: WebhookSubscription,
        sent_tasks: list[str],
    ) -> None:
        db_session.add(a_subscription())
        await db_session.commit()
        answer = await client.post(f"{SUBSCRIPTIONS}/{subscription.id}/ping")
        assert answer.status_code == 202, answer.text
        delivery = (await db_session.exec(select(WebhookDelivery))).one()
        assert delivery.subscription_id == subscription.id
        assert (delivery.event, delivery.state) == ("webhooks.ping", DeliveryState.PENDING)
        assert len(sent_tasks) == 1
