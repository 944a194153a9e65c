"""What can be done with a subscription, by the API, the admin or the service itself."""

import logging
from datetime import UTC, datetime, timedelta

from sqlmodel import Session

from app.core.task_context import get_task_id
from app.extensions.webhooks.models import WebhookSubscription
from app.extensions.webhooks.outbox import OWN_MESSAGES
from app.extensions.webhooks.settings import webhooks_settings
from app.extensions.webhooks.signatures import SECRET_PREFIX, generate_secret
from kit.messages import publish_sync

logger = logging.getLogger(__name__)

SUBSCRIPTION_SWITCHED_OFF = f"{OWN_MESSAGES}subscription-switched-off"


def switch_on(subscription: WebhookSubscription) -> None:
    """Send messages again, what has waited meanwhile included; earlier failures are forgotten."""
    subscription.is_active = True
    subscription.dead_letters = 0
    subscription.switched_off_because = None


def switch_off(session: Session, subscription: WebhookSubscription, reason: str) -> None:
    """Send no more, because of what the receiver does, and tell other parts of the service."""
    subscription.is_active = False
    subscription.switched_off_because = reason
    logger.warning("%ssubscription %s is off: %s", get_task_id(), subscription.id, reason)
    payload = {"subscription_id": subscription.id, "url": subscription.url, "reason": reason}
    publish_sync(session, SUBSCRIPTION_SWITCHED_OFF, payload)


def replace_secret(subscription: WebhookSubscription) -> None:
    """Give a new secret; the one before signs beside it for `WEBHOOKS_ROTATION_SECONDS`."""
    rotation = timedelta(seconds=webhooks_settings.ROTATION_SECONDS)
    readable = subscription.secret.startswith(SECRET_PREFIX)
    subscription.previous_secret = subscription.secret if readable else None
    subscription.previous_secret_until = datetime.now(UTC) + rotation
    subscription.secret = generate_secret()


def signing_secrets(subscription: WebhookSubscription) -> list[str]:
    """The secret, and the one before it while receivers may know no other.

    None where neither can be read, since `SECRET_KEY` was changed.
    """
    until = subscription.previous_secret_until
    known = [subscription.secret]
    if subscription.previous_secret and until and until > datetime.now(UTC):
        known.append(subscription.previous_secret)
    return [secret for secret in known if secret.startswith(SECRET_PREFIX)]
