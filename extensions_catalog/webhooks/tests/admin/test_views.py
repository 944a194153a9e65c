"""Subscriptions and deliveries in the admin."""

import re
from datetime import UTC, datetime

import httpx
import pytest
from sqlmodel import Session, col, select

from app.extensions.webhooks.models import DeliveryState, WebhookDelivery, WebhookSubscription
from app.extensions.webhooks.tests.rows import a_delivery, a_subscription, add, deliveries
from kit.models import AuditEntry

SUBSCRIPTIONS = "/admin/webhook-subscription"
DELIVERIES = "/admin/webhook-delivery"
FORM = {
    "url": "https://example.com/hook",
    "events": ["hotel.*", "order.paid"],
    "description": "Bookkeeping",
    "is_active": "y",
    "save": "Save",
}


@pytest.fixture
def subscription(sync_db_session: Session) -> WebhookSubscription:
    subscription = a_subscription(description="Bookkeeping", events=["hotel.*", "order.paid"])
    add(sync_db_session, subscription)
    return subscription


@pytest.mark.parametrize("view", [SUBSCRIPTIONS, DELIVERIES])
async def test_strangers_see_nothing(client: httpx.AsyncClient, view: str) -> None:
    answer = await client.get(f"{view}/list")
    assert answer.status_code == 302
    assert "/admin/login" in answer.headers["location"]


class TestSubscriptions:
    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ({"url": "http://example.com/"}, "the URL begins with http://"),
            ({"url": "https://10.0.0.1/"}, "10.0.0.1 is no public address"),
            ({"events": ["*.booked"]}, "String should match pattern"),
        ],
    )
    async def test_are_held_to_the_apis_rules(
        self,
        admin_client: httpx.AsyncClient,
        sync_db_session: Session,
        *,
        values: dict[str, object],
        reason: str,
    ) -> None:
        answer = await admin_client.post(f"{SUBSCRIPTIONS}/create", data=FORM | values)
        assert answer.status_code == 400
        assert reason in answer.text
        assert sync_db_session.exec(select(WebhookSubscription)).all() == []

    async def test_a_new_ones_secret_is_shown_once(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session
    ) -> None:
        answer = await admin_client.post(f"{SUBSCRIPTIONS}/create", data=FORM)
        assert answer.status_code == 200, answer.text
        assert answer.headers["Cache-Control"].startswith("no-store")
        subscription = sync_db_session.exec(select(WebhookSubscription)).one()
        shown = re.search(r'value="([^"]+)" readonly', answer.text)
        assert shown
        assert shown[1] == subscription.secret
        assert subscription.events == ["hotel.*", "order.paid"]

        for page in ("list", f"details/{subscription.id}", f"edit/{subscription.id}", "export/csv"):
            later = await admin_client.get(f"{SUBSCRIPTIONS}/{page}")
            assert later.status_code == 200
            assert subscription.url in later.text
            assert "whsec_" not in later.text
        entry = sync_db_session.exec(
            select(AuditEntry).order_by(col(AuditEntry.id).desc()).limit(1)
        ).one()
        assert entry.details["secret"] == {"new": "(hidden)"}

    async def test_the_secret_cannot_be_set(
        self,
        admin_client: httpx.AsyncClient,
        sync_db_session: Session,
        subscription: WebhookSubscription,
    ) -> None:
        before = subscription.secret
        form = FORM | {"secret": "whsec_AAAA", "description": "Changed"}
        answer = await admin_client.post(f"{SUBSCRIPTIONS}/edit/{subscription.id}", data=form)
        assert answer.status_code == 302, answer.text
        sync_db_session.refresh(subscription)
        assert (subscription.secret, subscription.description) == (before, "Changed")

    async def test_one_that_is_switched_on_begins_anew(
        self,
        admin_client: httpx.AsyncClient,
        sync_db_session: Session,
        subscription: WebhookSubscription,
    ) -> None:
        subscription.is_active = False
        subscription.dead_letters = 10
        subscription.switched_off_because = "10 deliveries in a row were given up"
        add(sync_db_session, subscription)
        page = await admin_client.get(f"{SUBSCRIPTIONS}/details/{subscription.id}")
        assert "10 deliveries in a row were given up" in page.text
        answer = await admin_client.post(f"{SUBSCRIPTIONS}/edit/{subscription.id}", data=FORM)
        assert answer.status_code == 302, answer.text
        sync_db_session.refresh(subscription)
        assert (subscription.is_active, subscription.dead_letters) == (True, 0)
        assert subscription.switched_off_because is None


class TestDeliveries:
    @pytest.fixture
    def one_of_each(
        self, sync_db_session: Session, subscription: WebhookSubscription
    ) -> list[WebhookDelivery]:
        rows = [
            a_delivery(subscription, state=state, event=f"order.{state}", attempts=3)
            for state in DeliveryState
        ]
        add(sync_db_session, *rows)
        return rows

    @pytest.mark.parametrize("path", ["create", "edit/1"])
    async def test_are_neither_made_nor_changed_here(
        self, admin_client: httpx.AsyncClient, path: str
    ) -> None:
        assert (await admin_client.get(f"{DELIVERIES}/{path}")).status_code == 403

    async def test_are_found_by_state(
        self, admin_client: httpx.AsyncClient, one_of_each: list[WebhookDelivery]
    ) -> None:
        page = (await admin_client.get(f"{DELIVERIES}/list", params={"state": "DEAD"})).text
        assert "order.dead" in page
        assert "order.pending" not in page
        assert "Bookkeeping" in page

    async def test_show_their_bodies_escaped(
        self,
        admin_client: httpx.AsyncClient,
        sync_db_session: Session,
        subscription: WebhookSubscription,
    ) -> None:
        delivery = a_delivery(subscription, body="<script>", last_error="<script>")
        add(sync_db_session, delivery)
        page = (await admin_client.get(f"{DELIVERIES}/details/{delivery.id}")).text
        assert "<pre>&lt;script&gt;</pre>" in page
        assert "<script></pre>" not in page
        assert subscription.secret not in page

    async def test_wrong_keys_are_refused(self, admin_client: httpx.AsyncClient) -> None:
        answer = await admin_client.get(f"{DELIVERIES}/action/replay?pks=1,x")
        assert answer.status_code == 400

    async def test_are_sent_again_except_those_that_are_pending(
        self,
        admin_client: httpx.AsyncClient,
        sync_db_session: Session,
        one_of_each: list[WebhookDelivery],
        sent_tasks: list[str],
    ) -> None:
        keys = ",".join(str(each.id) for each in one_of_each)
        answer = await admin_client.get(f"{DELIVERIES}/action/replay?pks={keys}")
        assert answer.status_code == 303, answer.text
        page = await admin_client.get(answer.headers["Location"])
        assert "2 will be sent again" in page.text
        rows = deliveries(sync_db_session)
        assert {each.state for each in rows} == {DeliveryState.PENDING}
        assert sorted(each.attempts for each in rows) == [0, 0, 3]
        assert all(
            each.next_attempt_at and each.next_attempt_at <= datetime.now(UTC) for each in rows
        )
        assert len(sent_tasks) == 1
        statement = select(AuditEntry.actor).where(AuditEntry.subject_type == "webhooks_delivery")
        assert set(sync_db_session.exec(statement)) == {"tester"}
