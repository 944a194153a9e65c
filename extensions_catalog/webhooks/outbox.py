"""Writing deliveries, in the transaction of what they tell of."""

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, insert, type_coerce
from sqlmodel import Session, col, select

from app.extensions.webhooks.models import DeliveryState, WebhookDelivery, WebhookSubscription
from app.extensions.webhooks.settings import webhooks_settings
from kit.messages import publish_sync

OWN_MESSAGES = "webhooks."
"""How the names of this extension's own messages begin, which go to no subscription."""
DELIVERIES_WAITING = f"{OWN_MESSAGES}deliveries-waiting"
PING = f"{OWN_MESSAGES}ping"


def write_deliveries(session: Session, event: str, data: Mapping[str, Any]) -> None:
    """Write a delivery of a message for each active subscription that wants it.

    Args:
        session: the sender's, so that deliveries are committed, or not, with what they tell of.
        event: the message's name.
        data: its payload.

    Raises:
        TypeError: when the payload holds what is no JSON.
        ValueError: when the body has more than `WEBHOOKS_BODY_LIMIT` bytes.
    """
    wants_it = col(WebhookSubscription.events).overlap(_entries_for(event))  # type: ignore[attr-defined]
    _write(session, and_(col(WebhookSubscription.is_active), wants_it), event, data)


def write_ping(session: Session, data: Mapping[str, Any]) -> None:
    """Write a delivery for one subscription, whatever it wants, to try its receiver.

    Args:
        session: the sender's.
        data: what to send, with the `subscription_id`.
    """
    _write(session, col(WebhookSubscription.id) == data["subscription_id"], PING, data)


def replay(delivery: WebhookDelivery) -> bool:
    """Have a delivery that has ended made once more, from the first attempt on.

    Gives whether that is so: one that is pending keeps its turn. The receiver gets the id that it
    got before, so it can tell whether it has the message already.

    Args:
        delivery: a row that the session has locked; then publish `DELIVERIES_WAITING`.
    """
    if delivery.state == DeliveryState.PENDING:
        return False
    delivery.state = DeliveryState.PENDING
    delivery.attempts = 0
    # By the clock by which it is claimed: the database's.
    delivery.next_attempt_at = func.statement_timestamp()  # type: ignore[assignment]
    return True


def _write(
    session: Session, wanted: ColumnElement[bool], event: str, data: Mapping[str, Any]
) -> None:
    values = {
        "message_id": f"msg_{uuid.uuid4().hex}",
        "event": event,
        "body": _body(event, data, datetime.now(UTC)),
        "state": DeliveryState.PENDING.value,
        "attempts": 0,
        "next_attempt_at": func.statement_timestamp(),
    }
    columns = WebhookDelivery.__table__.columns  # type: ignore[attr-defined]
    subscriptions = (
        select(
            col(WebhookSubscription.id),
            *(type_coerce(value, columns[name].type) for name, value in values.items()),
        )
        .where(wanted)
        # Keeps them from being deleted meanwhile, which would fail the deliveries of the others.
        .with_for_update(read=True, key_share=True)
    )
    written = session.exec(
        insert(WebhookDelivery).from_select(["subscription_id", *values], subscriptions)
    ).rowcount
    if written:
        publish_sync(session, DELIVERIES_WAITING, {"deliveries": written})


def _entries_for(event: str) -> list[str]:
    """What a subscription's list may hold to get an event: `*`, `a.*`, `a.b.*`, `a.b.c`."""
    parts = event.split(".")
    beginnings = (".".join(parts[:count]) for count in range(1, len(parts)))
    return ["*", *(f"{beginning}.*" for beginning in beginnings), event]


def _body(event: str, data: Mapping[str, Any], moment: datetime) -> str:
    """The document that the specification recommends."""
    timestamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = json.dumps(
        {"type": event, "timestamp": timestamp, "data": dict(data)},
        separators=(",", ":"),
        allow_nan=False,
    )
    # In ASCII, so characters are bytes.
    if len(body) > webhooks_settings.BODY_LIMIT:
        raise ValueError(
            f"{event} has {len(body)} bytes, more than the {webhooks_settings.BODY_LIMIT} of "
            "WEBHOOKS_BODY_LIMIT: publish keys, and let receivers ask for the rest"
        )
    return body
