"""What the extension does when something has happened."""

from app.extensions.storage.objects import DELETED
from app.extensions.storage.tasks import delete_marked
from kit.messages import Message, handles


@handles(DELETED, after_commit=True)
def delete_from_bucket(_: Message) -> None:
    """Have a worker delete the object; were this lost, the nightly clean-up would do it."""
    delete_marked.delay()
