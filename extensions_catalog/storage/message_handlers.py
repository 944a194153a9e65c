"""What the extension does when something has happened."""

from app.core.messages import Message, handles
from app.extensions.storage.objects import DELETED
from app.extensions.storage.tasks import delete_marked


@handles(DELETED, after_commit=True)
def delete_from_bucket(_: Message) -> None:
    """Have a worker delete the object; were this lost, the nightly clean-up would do it."""
    delete_marked.delay()
