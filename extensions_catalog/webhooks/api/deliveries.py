"""Routes below `/api/webhooks/deliveries`."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query
from sqlmodel import col, select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.extensions.webhooks.models import (
    DeliveryState,
    WebhookDelivery,
    WebhookDeliveryDetails,
    WebhookDeliveryOutput,
)
from app.extensions.webhooks.outbox import DELIVERIES_WAITING, replay
from app.extensions.webhooks.settings import webhooks_settings
from kit.errors import Problem
from kit.messages import publish

LARGEST_ID = 2**63 - 1
"""Of PostgreSQL's `bigint`."""

router = APIRouter(prefix="/deliveries", tags=["Webhook deliveries"])

DeliveryId = Annotated[int, Path(ge=1, le=LARGEST_ID)]


@router.get("", response_model=list[WebhookDeliveryOutput])
async def list_deliveries(
    session: ReadSessionDep,
    state: DeliveryState | None = None,
    subscription_id: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    after: Annotated[int, Query(ge=0, le=LARGEST_ID)] = 0,
) -> list[WebhookDelivery]:
    """The deliveries in the order of their ids, a page of them after the id `after`."""
    key = col(WebhookDelivery.id)
    statement = select(WebhookDelivery).where(key > after).order_by(key)
    if state is not None:
        statement = statement.where(WebhookDelivery.state == state)
    if subscription_id is not None:
        statement = statement.where(WebhookDelivery.subscription_id == subscription_id)
    return list(await session.exec(statement.limit(webhooks_settings.PAGE_SIZE)))


@router.get("/{delivery_id}", response_model=WebhookDeliveryDetails)
async def read_delivery(session: ReadSessionDep, delivery_id: DeliveryId) -> WebhookDelivery:
    """One delivery, with what is sent."""
    return _found(await session.get(WebhookDelivery, delivery_id), delivery_id)


@router.post(
    "/{delivery_id}/replay",
    response_model=WebhookDeliveryOutput,
    status_code=HTTPStatus.ACCEPTED,
)
async def replay_delivery(session: SessionDep, delivery_id: DeliveryId) -> WebhookDelivery:
    """Send a message once more that was delivered or given up, with the id that it had."""
    locked = await session.get(WebhookDelivery, delivery_id, with_for_update=True)
    delivery = _found(locked, delivery_id)
    if not replay(delivery):
        raise Problem(
            HTTPStatus.CONFLICT, f"Delivery {delivery_id} is pending: it is attempted anyway."
        )
    await publish(session, DELIVERIES_WAITING, {"deliveries": 1})
    await session.flush()
    await session.refresh(delivery)  # its next attempt is the database's time
    await session.commit()
    return delivery


def _found(delivery: WebhookDelivery | None, delivery_id: int) -> WebhookDelivery:
    if delivery is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no delivery {delivery_id}.")
    return delivery
