"""The extension's handlers of messages."""

from app.extensions.storage.objects import DELETED
from app.extensions.storage.tasks import delete_marked
from kit.messages import Message, handles


@handles(DELETED, after_commit=True)
def delete_from_bucket(_: Message) -> None:
    """Send the task that deletes the object; if it is lost, the nightly clean-up does it."""
    delete_marked.delay()
