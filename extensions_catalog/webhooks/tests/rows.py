"""Rows that tests begin with."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import update
from sqlmodel import Session, col, select

from app.extensions.webhooks.models import WebhookDelivery, WebhookSubscription
from app.extensions.webhooks.signatures import generate_secret
from app.extensions.webhooks.tests.receiver import Receiver
from kit.messages import publish_sync


def a_subscription(receiver: Receiver | None = None, **values: Any) -> WebhookSubscription:
    """A subscription to every message; to a receiver of the test, or to one that is nowhere."""
    defaults = {
        "url": receiver.url if receiver else "https://example.com/hook",
        "secret": receiver.secret if receiver else generate_secret(),
        "events": ["*"],
    }
    return WebhookSubscription(**(defaults | values))


def a_delivery(subscription: WebhookSubscription, **values: Any) -> WebhookDelivery:
    """A delivery that is due."""
    defaults = {
        "subscription_id": subscription.id,
        "message_id": f"msg_{uuid4().hex}",
        "event": "order.paid",
        "body": '{"type":"order.paid","data":{}}',
        "next_attempt_at": datetime.now(UTC),
    }
    return WebhookDelivery(**(defaults | values))


def add(session: Session, *rows: Any) -> None:
    """Commit rows, one after the other."""
    for row in rows:
        session.add(row)
        session.commit()


def send(session: Session, number: int = 1) -> None:
    """A message of another part of the service."""
    publish_sync(session, "order.paid", {"number": number})
    session.commit()


def deliveries(session: Session) -> list[WebhookDelivery]:
    """All there are, as they stand in the database now."""
    statement = select(WebhookDelivery).order_by(col(WebhookDelivery.id))
    return list(session.exec(statement.execution_options(populate_existing=True)))


def let_waits_end(session: Session) -> None:
    """Make all that waits for its next attempt due."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    waits = col(WebhookDelivery.next_attempt_at).is_not(None)
    session.exec(update(WebhookDelivery).where(waits).values(next_attempt_at=past))
    session.commit()
