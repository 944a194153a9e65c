"""What the extension does when something has happened: it may be told by mail."""

from app.extensions.mail.outbox import QUEUED, queue_mail
from app.extensions.mail.rendering import has_template
from app.extensions.mail.tasks import send_due_mail
from kit.messages import EVERY_MESSAGE, Message, call_after_commit, handles


@handles(EVERY_MESSAGE)
def write_mail(message: Message) -> None:
    """Write the mail into the outbox, when the message has a recipient and a template."""
    to = message.payload.get("mail_to")
    if to and has_template(message.name):
        to_name = str(message.payload.get("mail_to_name") or "")
        queue_mail(message.session, message.name, message.payload, to=to, to_name=to_name)


@handles(QUEUED)
def send_mail(message: Message) -> None:
    """Have a worker send what is due, once the mail is there to be read."""
    call_after_commit(message.session, send_due_mail.delay)
