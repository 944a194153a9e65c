"""Routes below `/api/webhooks/subscriptions`."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.dependencies import ReadSessionDep, SessionDep
from app.extensions.webhooks.models import (
    WebhookSubscription,
    WebhookSubscriptionInput,
    WebhookSubscriptionOutput,
    WebhookSubscriptionSecret,
)
from app.extensions.webhooks.outbox import PING
from app.extensions.webhooks.settings import webhooks_settings
from app.extensions.webhooks.signatures import generate_secret
from app.extensions.webhooks.subscriptions import replace_secret, switch_on
from kit.errors import Problem
from kit.messages import publish

LARGEST_ID = 2**31 - 1
"""Of PostgreSQL's `integer`."""

router = APIRouter(prefix="/subscriptions", tags=["Webhook subscriptions"])

SubscriptionId = Annotated[int, Path(ge=1, le=LARGEST_ID)]


@router.get("", response_model=list[WebhookSubscriptionOutput])
async def list_subscriptions(
    session: ReadSessionDep, after: Annotated[int, Query(ge=0, le=LARGEST_ID)] = 0
) -> list[WebhookSubscription]:
    """The subscriptions in the order of their ids, a page of them after the id `after`."""
    key = col(WebhookSubscription.id)
    statement = select(WebhookSubscription).where(key > after).order_by(key)
    return list(await session.exec(statement.limit(webhooks_settings.PAGE_SIZE)))


@router.get("/{subscription_id}", response_model=WebhookSubscriptionOutput)
async def read_subscription(
    session: ReadSessionDep, subscription_id: SubscriptionId
) -> WebhookSubscription:
    """One subscription."""
    return await _get_subscription(session, subscription_id)


@router.post("", response_model=WebhookSubscriptionSecret, status_code=HTTPStatus.CREATED)
async def create_subscription(
    session: SessionDep, values: WebhookSubscriptionInput
) -> WebhookSubscription:
    """Subscribe. The receiver needs the secret, which this answer alone holds."""
    subscription = WebhookSubscription(**values.model_dump(), secret=generate_secret())
    session.add(subscription)
    await session.commit()
    return subscription


@router.put("/{subscription_id}", response_model=WebhookSubscriptionOutput)
async def change_subscription(
    session: SessionDep, subscription_id: SubscriptionId, values: WebhookSubscriptionInput
) -> WebhookSubscription:
    """Change a subscription; one that is switched on gets what has waited for it."""
    subscription = await _get_subscription(session, subscription_id)
    if values.is_active and not subscription.is_active:
        switch_on(subscription)
    subscription.sqlmodel_update(values)
    await session.commit()
    return subscription


@router.delete("/{subscription_id}", status_code=HTTPStatus.NO_CONTENT)
async def delete_subscription(session: SessionDep, subscription_id: SubscriptionId) -> None:
    """Cancel a subscription for good; its deliveries go with it."""
    await session.delete(await _get_subscription(session, subscription_id))
    await session.commit()


@router.post("/{subscription_id}/secret", response_model=WebhookSubscriptionSecret)
async def rotate_secret(
    session: SessionDep, subscription_id: SubscriptionId
) -> WebhookSubscription:
    """Replace the secret; for a while messages are signed with the one before as well."""
    subscription = await _get_subscription(session, subscription_id)
    replace_secret(subscription)
    await session.commit()
    return subscription


@router.post("/{subscription_id}/ping", status_code=HTTPStatus.ACCEPTED)
async def ping(session: SessionDep, subscription_id: SubscriptionId) -> None:
    """Send the message `webhooks.ping`, to try the receiver."""
    await _get_subscription(session, subscription_id)
    await publish(session, PING, {"subscription_id": subscription_id})
    await session.commit()


async def _get_subscription(session: AsyncSession, subscription_id: int) -> WebhookSubscription:
    subscription = await session.get(WebhookSubscription, subscription_id)
    if subscription is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no subscription {subscription_id}.")
    return subscription
