"""What the extension does when something has happened."""

from app.extensions.webhooks.outbox import (
    DELIVERIES_WAITING,
    OWN_MESSAGES,
    PING,
    write_deliveries,
    write_ping,
)
from app.extensions.webhooks.tasks import deliver_due
from kit.messages import EVERY_MESSAGE, Message, call_after_commit, handles


@handles(EVERY_MESSAGE)
def pass_on(message: Message) -> None:
    """Write deliveries for those who have subscribed, before the sender commits."""
    if not message.name.startswith(OWN_MESSAGES):
        write_deliveries(message.session, message.name, message.payload)


@handles(PING)
def send_ping(message: Message) -> None:
    """Write a delivery for the subscription that is to be tried."""
    write_ping(message.session, message.payload)


@handles(DELIVERIES_WAITING)
def send_task(message: Message) -> None:
    """Have them made once they are committed; were this lost, the schedule would find them."""
    call_after_commit(message.session, deliver_due.delay)
