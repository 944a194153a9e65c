"""The service in which nobody listens to every message, as some extensions do.

What they write in the sender's transaction is theirs, and in no figure of the sender.
"""

from app.commands import serve
from app.core import messages
from app.main import app

__all__ = ["app"]


def handlers_of_this_message(name: str) -> list[messages._Registered]:
    """The handlers registered for the message by its name."""
    return [*messages._handlers.get(name, {}).values()]


if __name__ == "__main__":
    serve.APPLICATION = "app.extensions._example.tests.service_without_listeners:app"
    serve.main([])
else:
    messages._handlers_of = handlers_of_this_message
