"""What happens when something has happened."""

import logging

from app.models.delivery import DeliveryNote
from kit.messages import Message, handles

logger = logging.getLogger(__name__)


@handles("delivery.sent")
def note_delivery(message: Message) -> None:
    """Note it with the delivery itself."""
    message.session.add(DeliveryNote(text=f"{message.payload['street']} is on its way"))


@handles("delivery.sent", after_commit=True)
def log_delivery(message: Message) -> None:
    """Say so once it is certain."""
    logger.info("%s", message.payload["street"])
