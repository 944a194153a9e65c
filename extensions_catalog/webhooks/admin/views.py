"""Views of the extension's tables."""

from typing import Any

import anyio.to_thread
from markupsafe import Markup
from pydantic import ValidationError
from sqladmin import ModelView, action
from sqladmin.filters import BooleanFilter
from sqladmin.secret import Secret
from sqlmodel import col, select
from starlette.requests import Request
from starlette.responses import RedirectResponse

from app.extensions.webhooks.models import (
    DeliveryState,
    WebhookDelivery,
    WebhookSubscription,
    WebhookSubscriptionInput,
)
from app.extensions.webhooks.outbox import DELIVERIES_WAITING, replay
from app.extensions.webhooks.signatures import generate_secret
from app.extensions.webhooks.subscriptions import switch_on
from kit.admin import (
    DateRangeFilter,
    EnumFilterBase,
    admin_session_maker,
    chosen_keys,
    exact_time,
    return_to_list,
    short_time,
)
from kit.messages import publish_sync


class WebhookSubscriptionAdmin(ModelView, model=WebhookSubscription):
    """Receivers. A new one gets a secret, which is shown once; the API replaces it."""

    name = "Subscription"
    icon = "fa-solid fa-tower-broadcast"
    category = "Webhooks"
    category_icon = "fa-solid fa-share-nodes"
    column_list = ("url", "description", "is_active", "events", "dead_letters")
    column_labels = {
        "url": "URL",
        "is_active": "Active",
        "dead_letters": "Given up in a row",
        "previous_secret_until": "Secret before signs until",
        "created_at": "Since",
    }
    column_details_list = (
        *column_list,
        *("switched_off_because", "previous_secret_until", "created_at"),
    )
    column_export_list = [*column_list]
    column_searchable_list = ("url", "description")
    column_sortable_list = ("url", "dead_letters", "created_at")
    column_default_sort = "id"
    column_filters = (BooleanFilter("is_active", title="Active"),)
    column_formatters = {
        "events": lambda row, _: ", ".join(row.events),
        "created_at": short_time,
        "previous_secret_until": short_time,
    }
    column_formatters_detail = column_formatters
    form_columns = ("url", "events", "description", "is_active")

    async def on_model_change(
        self,
        data: dict[str, Any],
        model: WebhookSubscription,
        is_created: bool,
        request: Request,
    ) -> None:
        """Hold a form to the API's rules, and give a new subscription its secret.

        Raises:
            ValueError: for an address that nothing is sent to, or an event that cannot be.
        """
        try:
            values = WebhookSubscriptionInput.model_validate(data)
        except ValidationError as error:
            raise ValueError(_in_words(error)) from None
        data.update(values.model_dump())
        if is_created:
            model.secret = generate_secret()
        elif values.is_active and not model.is_active:
            switch_on(model)

    async def after_model_change(
        self,
        data: dict[str, Any],
        model: WebhookSubscription,
        is_created: bool,
        request: Request,
    ) -> None:
        """Show a new subscription's secret, this once."""
        if is_created:
            Secret.reveal_once(
                request,
                model.secret,
                title=f"Secret of {model.url}",
                label="The receiver needs it now: it will not be shown again.",
            )


class DeliveryStateFilter(EnumFilterBase):
    """How deliveries are doing."""

    enum = DeliveryState


class WebhookDeliveryAdmin(ModelView, model=WebhookDelivery):
    """What was sent to whom, and what came of it."""

    name = "Delivery"
    name_plural = "Deliveries"
    icon = "fa-solid fa-paper-plane"
    category = "Webhooks"
    category_icon = "fa-solid fa-share-nodes"
    can_create = can_edit = False
    column_list = ("id", "state", "event", "subscription", "attempts", "next_attempt_at")
    column_labels = {
        "last_error": "What went wrong",
        "next_attempt_at": "Next attempt",
        "created_at": "Written",
    }
    column_details_list = (
        *column_list,
        *("last_attempt_at", "last_status", "last_error", "created_at", "message_id", "body"),
    )
    column_export_list = [
        *("id", "state", "event", "subscription_id", "attempts", "next_attempt_at"),
        *("last_attempt_at", "last_status", "last_error", "created_at", "message_id"),
    ]
    column_searchable_list = ("event", "message_id")
    column_sortable_list = ("id", "event", "state", "next_attempt_at")
    column_default_sort = ("id", True)
    column_filters = (
        DeliveryStateFilter(WebhookDelivery.state),
        DateRangeFilter(WebhookDelivery.created_at, title="Written"),
    )
    column_formatters = {"next_attempt_at": short_time}
    column_formatters_detail = {
        "next_attempt_at": exact_time,
        "created_at": exact_time,
        "last_attempt_at": exact_time,
        "body": lambda row, _: Markup("<pre>{}</pre>").format(row.body),
    }
    export_max_rows = 10_000
    page_size = 25

    @action(
        name="replay",
        label="Send again",
        confirmation_message="Send the chosen messages again? Receivers get the ids they had.",
    )
    async def replay(self, request: Request) -> RedirectResponse:
        """Send the chosen messages once more, from the first attempt on."""
        count = await anyio.to_thread.run_sync(_replay, chosen_keys(request))
        return return_to_list(self, request, f"{count} will be sent again")


def _replay(ids: list[int]) -> int:
    statement = (
        select(WebhookDelivery)
        .where(col(WebhookDelivery.id).in_(ids))
        .order_by(col(WebhookDelivery.id))
        .with_for_update()
    )
    with admin_session_maker.begin() as session:
        count = sum(replay(delivery) for delivery in session.exec(statement))
        publish_sync(session, DELIVERIES_WAITING, {"deliveries": count})
    return count


def _in_words(error: ValidationError) -> str:
    parts = (
        f"{'.'.join(map(str, each['loc']))}: {each['msg'].removeprefix('Value error, ')}"
        for each in error.errors()
    )
    return "; ".join(parts)
