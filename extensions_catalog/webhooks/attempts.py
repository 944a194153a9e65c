"""Attempts: claimed in one transaction, made without any, and recorded in another.

So no connection to the database is held while a receiver takes its time.
"""

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus

from sqlalchemy import and_, func, true
from sqlmodel import Session, col, select

from app.core.task_context import get_task_id
from app.extensions.webhooks.client import Outcome, post
from app.extensions.webhooks.models import DeliveryState, WebhookDelivery, WebhookSubscription
from app.extensions.webhooks.settings import webhooks_settings
from app.extensions.webhooks.signatures import signed_headers
from app.extensions.webhooks.subscriptions import signing_secrets, switch_off
from kit.messages import call_after_commit
from kit.outbox import back_off, count_failure

logger = logging.getLogger(__name__)

FIRST_WAIT = 30
LONGEST_WAIT = 86_400
"""Seconds between attempts: 30 s, 2 min, 8 min, 32 min, 2 h, 8.5 h, then a day each."""

LEASE_SECONDS = 60
"""Beyond the request's own time: then an attempt of which nothing was recorded counts as lost."""
LONGEST_ERROR = 500

UNREADABLE = (
    "the secret cannot be read, since SECRET_KEY was changed: set WEBHOOKS_FORMER_SECRET_KEY to "
    "the one before, or replace the secret"
)

CLAIMING_WORKERS = 8
"""That find something at the same moment, when all that is due belongs to one subscription."""


@dataclass(frozen=True)
class Attempt:
    """All that is needed to make one attempt and to record what came of it."""

    delivery_id: int | None
    subscription_id: int
    number: int
    url: str
    secrets: list[str] = field(repr=False)
    message_id: str
    body: str


def claim_due(session: Session, limit: int) -> list[Attempt]:
    """Claim deliveries that are due, so that no other worker attempts them at the same time.

    The oldest of each subscription come first, then the second of each: a receiver that is slow
    and has many does not hold up all others.
    """
    now = func.statement_timestamp()  # the database's clock, which all workers share
    is_due = and_(
        col(WebhookDelivery.state) == DeliveryState.PENDING,
        col(WebhookDelivery.next_attempt_at) <= now,
    )
    next_ones = (
        select(
            col(WebhookDelivery.id),
            func.row_number().over(order_by=col(WebhookDelivery.next_attempt_at)).label("turn"),
        )
        .where(col(WebhookDelivery.subscription_id) == WebhookSubscription.id, is_due)
        .order_by(col(WebhookDelivery.next_attempt_at))
        .limit(limit * CLAIMING_WORKERS)
        .correlate(WebhookSubscription)
        .lateral()
    )
    statement = (
        select(WebhookDelivery, WebhookSubscription, now)
        .select_from(WebhookSubscription)
        .join(next_ones, true())
        .join(WebhookDelivery, col(WebhookDelivery.id) == next_ones.c.id)
        # `is_due` once more: this one PostgreSQL checks again when it locks a row that another
        # worker has changed meanwhile.
        .where(is_due, col(WebhookSubscription.is_active))
        .order_by(next_ones.c.turn, col(WebhookDelivery.next_attempt_at))
        .limit(limit)
        .with_for_update(of=WebhookDelivery, skip_locked=True)
    )
    return [_claim(*row) for row in session.exec(statement)]


def make(attempt: Attempt) -> Outcome:
    """Send the message; for any thread, since it needs no session."""
    if not attempt.secrets:
        return Outcome(error=UNREADABLE)
    try:
        headers = signed_headers(
            attempt.secrets, attempt.message_id, datetime.now(UTC), attempt.body
        )
        # Some firewalls refuse requests that do not say what sends them.
        headers |= {"content-type": "application/json", "user-agent": "standard-webhooks"}
        return post(attempt.url, headers, attempt.body, timeout=webhooks_settings.TIMEOUT)
    except Exception as error:
        # A mistake of ours counts as a failed attempt too: it must not stop other deliveries.
        logger.exception("delivery %s failed", attempt.delivery_id)
        return Outcome(error=f"{type(error).__name__}: the service's log tells more")


def record(session: Session, attempt: Attempt, outcome: Outcome) -> None:
    """Note what came of an attempt, and what follows: the next one, or the end."""
    # The subscription first, as its deletion does: otherwise the two could wait for each other.
    subscription = session.get(
        WebhookSubscription, attempt.subscription_id, with_for_update={"key_share": True}
    )
    found = session.exec(
        select(WebhookDelivery, func.statement_timestamp())
        .where(
            col(WebhookDelivery.id) == attempt.delivery_id,
            col(WebhookDelivery.state) == DeliveryState.PENDING,
            # Otherwise this one took so long that another was begun.
            col(WebhookDelivery.attempts) == attempt.number,
        )
        .with_for_update()
    ).first()
    if subscription is None or found is None:
        return
    delivery, now = found
    delivery.last_status = outcome.status
    delivery.last_error = outcome.error and outcome.error[:LONGEST_ERROR]
    if outcome.error is None:
        _end(delivery, DeliveryState.DELIVERED)
        subscription.dead_letters = 0
    elif outcome.status == HTTPStatus.GONE:
        _end(delivery, DeliveryState.DEAD)
        switch_off(session, subscription, "the receiver answered 410: it wants no more")
    elif attempt.number >= webhooks_settings.ATTEMPTS:
        _end(delivery, DeliveryState.DEAD)
        _count_dead_letter(session, subscription)
        call_after_commit(session, partial(count_failure, WebhookDelivery))
    else:
        wait = back_off(attempt.number, first=FIRST_WAIT, longest=LONGEST_WAIT)
        wait = max(wait, min(outcome.retry_after or 0, LONGEST_WAIT))
        delivery.next_attempt_at = now + timedelta(seconds=wait)
    logger.info(
        "%sdelivery %s, attempt %s: %s",
        get_task_id(),
        attempt.delivery_id,
        attempt.number,
        outcome.error or delivery.state,
    )


def _claim(delivery: WebhookDelivery, subscription: WebhookSubscription, now: datetime) -> Attempt:
    delivery.attempts += 1
    delivery.last_attempt_at = now
    lease = timedelta(seconds=webhooks_settings.TIMEOUT + LEASE_SECONDS)
    delivery.next_attempt_at = now + lease
    return Attempt(
        delivery_id=delivery.id,
        subscription_id=delivery.subscription_id,
        number=delivery.attempts,
        url=subscription.url,
        secrets=signing_secrets(subscription),
        message_id=delivery.message_id,
        body=delivery.body,
    )


def _end(delivery: WebhookDelivery, state: DeliveryState) -> None:
    delivery.state = state
    delivery.next_attempt_at = None


def _count_dead_letter(session: Session, subscription: WebhookSubscription) -> None:
    subscription.dead_letters += 1
    count = subscription.dead_letters
    if subscription.is_active and count >= webhooks_settings.DEAD_LETTER_LIMIT:
        switch_off(session, subscription, f"{count} deliveries in a row were given up")
